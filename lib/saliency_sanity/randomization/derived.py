"""Weights that are computed of others: spectral and weight norms, orthogonal ones, masks.

What is drawn for such a weight is what it is computed of; and what was worked out for the learned
weight, such as the vectors of a power iteration, is worked out again for the drawn one.
"""

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm

from saliency_sanity._random import seeded

_OLD = ("_orig", "_g", "_v")  # how torch.nn.utils names what a weight is computed of


def derived(module: nn.Module) -> list[str]:
    """Names of the weights of a module that are computed of other parameters."""
    if isinstance(module, torch.jit.ScriptModule):
        return []
    new = getattr(module, "parametrizations", {})
    old = {
        name.removesuffix(end)
        for name in module._parameters
        for end in _OLD
        if name.endswith(end) and isinstance(vars(module).get(name.removesuffix(end)), Tensor)
    }
    return [*(new if isinstance(new, nn.ModuleDict) else ()), *sorted(old)]


def bare(module: nn.Module) -> nn.Module:
    """A copy of a module whose derived weights are parameters of their own, as they were at first.

    Its values are of no use but to be overwritten.
    """
    computed = {id(v): v.detach().clone() for v in vars(module).values() if isinstance(v, Tensor)}
    twin = copy.deepcopy(module, computed)
    with torch.no_grad():
        weights = {name: nn.Parameter(getattr(module, name).clone()) for name in derived(module)}
    if twin._modules.pop("parametrizations", None) is not None:
        # Not torch's remove_parametrizations: the class is shared, and the module would lose it.
        twin.__class__ = type(module).__bases__[0]
    for name, weight in weights.items():
        vars(twin).pop(name, None)
        for end in _OLD:
            twin._parameters.pop(name + end, None)
        twin._parameters[name] = weight
    return twin


def originals(module: nn.Module, name: str, weight: Tensor, seed: int) -> dict[str, Tensor]:
    """What ``weight`` is computed of, by name in the module; {} where no inverse is known."""
    if name not in getattr(module, "parametrizations", ()):
        if f"{name}_orig" in module._parameters:
            return {f"{name}_orig": weight}
        (dim,) = {h.dim for h in module._forward_pre_hooks.values() if _named(h) == name}
        return {f"{name}_v": weight, f"{name}_g": torch.norm_except_dim(weight, 2, dim)}
    twin = copy.deepcopy(module.parametrizations[name]).cpu()
    try:
        with seeded(seed), torch.no_grad():
            twin.right_inverse(weight)
    except (NotImplementedError, RuntimeError, ValueError):
        return {}
    found = dict(twin.named_parameters()) | dict(twin.named_buffers())
    return {f"parametrizations.{name}.{key}": value.detach() for key, value in found.items()}


@torch.no_grad()
def consequences(
    module: nn.Module, name: str, drawn: Mapping[str, Tensor], key: torch.Generator | None
) -> Iterator[tuple[str, Tensor]]:
    """What follows from ``drawn``, new parameters and buffers, by name in the module.

    With ``key`` what is orthogonal by its form stays so, and its base, which is the weight at the
    start of training, is drawn.
    """
    if name not in getattr(module, "parametrizations", ()):
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm) and hook.name == name:
                matrix = hook.reshape_weight_to_matrix(drawn[f"{name}_orig"])
                yield from zip((f"{name}_u", f"{name}_v"), _leading(matrix), strict=True)
        return
    place = f"parametrizations.{name}."
    twin: ParametrizationList = copy.deepcopy(module.parametrizations[name]).eval()
    for own, tensor in [*twin.named_parameters(), *twin.named_buffers()]:
        if place + own in drawn:
            tensor.copy_(drawn[place + own])
    weight = [tensor for own, tensor in twin.named_parameters(recurse=False)]
    for number, step in enumerate(twin):
        if isinstance(step, _SpectralNorm) and hasattr(step, "_u"):
            step._u, step._v = _leading(step._reshape_weight_to_matrix(*weight))
            yield f"{place}{number}._u", step._u
            yield f"{place}{number}._v", step._v
        if key is not None and isinstance(step, _Orthogonal) and number == 0:
            # Householder's form reads signs from the diagonal, and cuts other numbers to zero.
            (signs,) = (tensor.diagonal(dim1=-2, dim2=-1) for tensor in weight)
            if step.orthogonal_map.name == "householder":
                signs.copy_(torch.where(signs < 0, -1, 1).to(signs))
                yield f"{place}original", weight[0].detach()
        base = getattr(step, "base", None)
        if key is not None and isinstance(step, _Orthogonal) and base is not None:
            noise = torch.randn(base.shape, generator=key, dtype=torch.float64, device="cpu")
            step.base = torch.linalg.qr(noise).Q.to(base)
            yield f"{place}{number}.base", step.base
        weight = [step(*weight)]


def _named(hook: object) -> str | None:
    return getattr(hook, "name", None) if hasattr(hook, "dim") else None


def _leading(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The singular vectors to which a power iteration converges, whatever it starts from."""
    exact = matrix.double()
    wide = exact.shape[0] <= exact.shape[1]
    square = exact @ exact.T if wide else exact.T @ exact
    first = torch.linalg.eigh(square).eigenvectors[:, -1]
    second = nn.functional.normalize((exact.T if wide else exact) @ first, dim=0)
    pair = (first, second) if wide else (second, first)
    return pair[0].to(matrix), pair[1].to(matrix)
