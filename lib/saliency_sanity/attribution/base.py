"""The one gradient primitive, and the scope within which every attribution runs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable
from saliency_sanity._hashing import wrapped
from saliency_sanity.networks.depthwise import together
from saliency_sanity.networks.folding import folding, trusting
from saliency_sanity.networks.forward import (
    Ordered,
    held,
    laid_out,
    logits_in,
    logits_of,
    manner,
    most,
    name_of,
    out_of_memory,
)

# Elements of one chunk of inputs: 8 pictures of 299 px on a CPU, 64 on a GPU. More does not run
# faster there, and less leaves cores idle. Results do not depend on it.
_CPU_ELEMENTS = 8 * 3 * 299 * 299
_GPU_ELEMENTS = 64 * 3 * 299 * 299


class Attribution(Protocol):
    """Anything that explains a logit: ``(model, x, target) -> map``.

    x ``[N, C, H, W]`` in the network's own scaling, target ``[N]`` int64; the map is
    ``[N, C, H, W]``, or ``[N, 1, H, W]``, without a graph.
    """

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor: ...  # noqa: D102


def passes(method: Attribution) -> int:
    """Passes ``method`` needs for an image; 1 where it does not say.

    Backward passes, each with its forward pass; forward passes of a method that has no others. One
    with ``every_label`` needs as many for each label of the network, one with ``every_channel`` one
    more for each channel of its layer.
    """
    return getattr(method, "passes", 1)


@dataclass
class _Scope:
    model: nn.Module
    limit: int | None  # largest chunk known to fit; falls when memory runs out


_scope: ContextVar[_Scope | None] = ContextVar("attribution_scope", default=None)


def mapped(method: Attribution, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """What ``method`` gives, whoever wrote it: ``x`` is as it was after it.

    Where the network's logits of a picture hang on the batch, each picture is explained by itself.
    """
    found = manner(model, x)
    before = x.detach().clone() if found.writes else None
    try:
        if not found.alone or len(x) == 1:
            return method(model, x, target)
        pairs = zip(x.split(1), target.split(1), strict=True)
        parts = [method(model, one, wanted) for one, wanted in pairs]
    finally:
        if before is not None:
            x.data.copy_(before)
    return torch.cat(parts) if all(isinstance(part, Tensor) for part in parts) else parts[0]


@contextmanager
def chunk_limit(images: int) -> Iterator[None]:
    """Let no forward pass within the block take more than ``images`` inputs.

    Raises ValueError unless ``images`` is at least 1.
    """
    if images < 1:
        raise ValueError(f"chunk limit {images} must be at least 1")
    token = most.set(images)
    try:
        yield
    finally:
        most.reset(token)


def chunk_size(x: Tensor) -> int:
    """How many inputs of the shape of ``x`` ``[N, C, H, W]`` go through the network at once.

    One, where what it makes of a picture hangs on the others.
    """
    scope = _scope.get()
    if scope is not None and manner(scope.model, x).alone:
        return 1
    elements = _GPU_ELEMENTS if x.is_cuda else _CPU_ELEMENTS
    limits = [max(1, elements // max(1, x[0].numel())), most.get(), scope and scope.limit]
    return min(limit for limit in limits if limit)


def check_target(x: Tensor, target: Tensor) -> None:
    """Refuse a target that is no class for each image of ``x``; raises as ``check`` does."""
    if not isinstance(target, Tensor) or target.dtype != torch.int64:
        kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"target must be an int64 tensor, not {kind}; use torch.tensor([...])")
    if target.shape != x.shape[:1]:
        raise ValueError(
            f"target must be [{len(x)}], one class per image, not {tuple(target.shape)}"
        )
    if (target < 0).any():
        raise ValueError(f"target {target.min().item()} is out of range: classes start at 0")


def check(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Refuse inputs that break the contract, before anything is computed.

    Raises TypeError or ValueError that names the value and what would be valid.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point tensor, not {kind}; convert with x.float()")
    if x.ndim != 4 or not len(x):
        raise ValueError(f"x must be [N, C, H, W] with N >= 1, not {tuple(x.shape)}")
    check_target(x, target)
    _check_place(model, x, target)
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bad.any():
        images = bad.nonzero().flatten()[:8].tolist()
        raise ValueError(f"x has NaN or infinite values in image(s) {images}")


def _check_place(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Refuse pictures of another type or device than all that a model computes with."""
    own = [tensor for tensor in model.parameters() if tensor.is_floating_point()]
    types, places = ({getattr(tensor, key) for tensor in own} for key in ("dtype", "device"))
    if types and x.dtype not in types and not torch.is_autocast_enabled(x.device.type):
        said = " and ".join(sorted(map(str, types)))
        raise TypeError(f"x is {x.dtype} but the model is {said}; convert one")
    if x.device != target.device or (places and x.device not in places):
        said = " and ".join(sorted(map(str, places))) or "no device of its own"
        raise ValueError(
            f"x on {x.device}, target on {target.device}, model on {said}: "
            "move all three to one device"
        )


def select(logits: Tensor, target: Tensor) -> Tensor:
    """The logit of each row's target, ``[N]``.

    Raises ValueError where the model did not return ``[N, K]`` or a target is not in [0, K).
    """
    logits = logits_in(logits, len(target))
    classes = logits.shape[1]
    wrong = target[(target < 0) | (target >= classes)]
    if len(wrong):
        one = (
            "; one logit z a picture is one class: return torch.stack([-z / 2, z / 2], 1) for two"
            if classes == 1
            else ""
        )
        raise ValueError(
            f"target {wrong[0].item()} is out of range: valid are 0 to {classes - 1}{one}"
        )
    # A copy, since one made under inference mode cannot be saved for the backward pass.
    return logits.gather(1, target.clone()[:, None])[:, 0]


@contextmanager
def attributing(model: nn.Module, x: Tensor, target: Tensor) -> Iterator[None]:
    """Check the inputs and hold the model still, as ``forward.held`` does.

    Nested use, as in compositions, costs nothing.
    """
    scope = _scope.get()
    if scope is not None and scope.model is model:
        yield
        return
    check(model, x, target)
    token = _scope.set(_Scope(model, None))
    try:
        plain = manner(model, x).layout is torch.contiguous_format
        mending = Ordered() if plain else nullcontext()
        with _uncompiled(model), held(model), trusting(), mending, together(x):
            yield
    finally:
        _scope.reset(token)


def _uncompiled(model: nn.Module) -> AbstractContextManager:
    """Run what ``torch.compile`` has made as it was written.

    Compiled code sees neither hooks nor the functions that a backward rule replaces.
    """
    compiled = any(
        wrapped(module) == "_orig_mod" or module._compiled_call_impl is not None
        for module in model.modules()
    )
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def in_chunks(x: Tensor, target: Tensor, explain: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Concatenate ``explain(x_chunk, target_chunk)`` over chunks that fit in memory.

    A chunk that does not fit is halved and tried again; the smaller size is kept until the
    outermost attribution ends. Raises MemoryError when a single input does not fit.
    """
    parts, start = [], 0
    while start < len(x):
        size = min(chunk_size(x), len(x) - start)
        try:
            parts.append(explain(x[start : start + size], target[start : start + size]))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise MemoryError(
                    f"one input of shape {tuple(x.shape[1:])} does not fit in the memory of "
                    f"{x.device}: use smaller images, a smaller network or another device"
                ) from error
            scope = _scope.get()
            if scope is None:
                raise
            scope.limit = size // 2
        else:
            start += size
            continue
        # Outside the handler, so that the failed pass's frames no longer hold its tensors.
        if x.is_cuda:
            torch.cuda.empty_cache()
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """Logits ``[N, K]`` of all of ``x`` without a graph, in chunks; raises as ``check`` does."""
    nothing = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    with attributing(model, x, nothing), torch.no_grad():
        return in_chunks(x, nothing, lambda part, _: logits_of(model, laid_out(model, part)))


@contextmanager
def recording() -> Iterator[None]:
    """Record a graph even where the caller is in ``no_grad`` or ``inference_mode``."""
    leave = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
    with leave, torch.enable_grad():
        yield


class ShortenedPass(Protocol):
    """A forward pass that need not start at the input; see ``experiments.replay``."""

    def covers(self, model: nn.Module, part: Tensor) -> bool:
        """Whether it knows this network and these inputs."""
        ...

    def forward(self, part: Tensor) -> tuple[Tensor, Tensor, bool]:
        """As ``differentiable``."""
        ...


# Whoever knows a shorter way to the logits hooks in here; every gradient takes it.
shortened: ContextVar[ShortenedPass | None] = ContextVar("shortened", default=None)


def differentiable(model: nn.Module, part: Tensor) -> tuple[Tensor, Tensor, bool]:
    """A leaf with the values of ``part`` and its logits, and whether to retain their graph.

    Where a pass is ``shortened`` it may start in the middle; leaf and graph are then shared by all
    passes over ``part`` and must outlive each of them. With gradients enabled it raises
    NotApplicable for a network whose graph is cut.
    """
    if torch.is_grad_enabled():
        require_gradient(model, part)
    shorter = shortened.get()
    if shorter is not None and shorter.covers(model, part):
        return shorter.forward(part)
    leaf = leaf_of(model, part)
    return leaf, folding(model, leaf, lambda: logits_of(model, leaf)), False


def require_gradient(model: nn.Module, x: Tensor) -> None:
    """Raise NotApplicable where no gradient of the logits reaches pictures like ``x``."""
    if cut := manner(model, x).cut:
        raise NotApplicable(_unreached(model, cut))


def leaf_of(model: nn.Module, part: Tensor) -> Tensor:
    """A copy that a graph can start from, in the layout in which the network is fast."""
    return laid_out(model, part).clone().requires_grad_(torch.is_grad_enabled())


def gradient_of(
    model: nn.Module,
    score: Tensor,
    leaf: Tensor,
    weight: Tensor | None = None,
    *,
    retain_graph: bool = False,
) -> Tensor:
    """Gradient of scores ``[N]``, each times its ``weight``, with respect to ``leaf``.

    Raises NotApplicable where the graph does not lead from one to the other.
    """
    found = None
    if score.requires_grad:
        if weight is None:
            score = score.sum()
        try:
            (found,) = torch.autograd.grad(
                score, leaf, weight, retain_graph=retain_graph, allow_unused=True
            )
        except RuntimeError as error:
            if "use_reentrant" in str(error):
                why = "it computes parts again by checkpoint(use_reentrant=True); False helps"
            elif "modified by an inplace operation" in str(error):
                why = "it overwrites in place what the backward pass needs; a copy helps"
            else:
                raise
            raise NotApplicable(_unreached(model, why)) from error
    if found is None:
        raise NotApplicable(_unreached(model, "its graph is cut for these pictures"))
    return found.contiguous()


def _unreached(model: nn.Module, why: str) -> str:
    return (
        f"no gradient of the logits of {name_of(model)} reaches the pictures: {why}. Let autograd "
        "record all of its forward pass, or use a method that sees the picture only"
    )


@dataclass(frozen=True)
class Gradient:
    """Gradient of the target's logit (before any softmax) with respect to the input.

    Map ``[N, C, H, W]`` in logit per unit of the network's scaling. Raises as ``check`` and
    ``select`` do. [simonyan2014deep]
    """

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def explain(part: Tensor, wanted: Tensor) -> Tensor:
            with recording():
                leaf, logits, kept = differentiable(model, part)
                score = select(logits, wanted)
                return gradient_of(model, score, leaf, retain_graph=kept)

        with attributing(model, x, target):
            return in_chunks(x, target, explain)


@dataclass(frozen=True)
class Score:
    """The target's logit, or its probability, by a forward pass: a map without places.

    ``[N, 1, 1, 1]``. What explains by hiding parts of the picture asks for this. The probability is
    the softmax over labels, or the sigmoid where there is but one.
    """

    probability: bool = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Score ``target`` for ``x``."""

        def score(part: Tensor, wanted: Tensor) -> Tensor:
            with torch.no_grad():
                logits = differentiable(model, part)[1]
                found = select(logits, wanted)
                if self.probability:
                    one = logits.shape[1] == 1
                    found = found.sigmoid() if one else select(logits.softmax(1), wanted)
                return found.view(-1, 1, 1, 1)

        with attributing(model, x, target):
            return in_chunks(x, target, score)
