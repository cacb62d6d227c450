"""Blocks of a network, found by running it: what is randomized together, in order of execution."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._errors import unknown
from saliency_sanity._hashing import bare_name, wrapped
from saliency_sanity.attribution.base import attributing, recording
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.randomization.replay import restartable

ORDERS = ("top_down", "bottom_up", "independent", "full")

# Everything at once; its maps are also what the prior is made of.
WHOLE = "all"

# What only chains its children; subclasses (a convolution with its norm) are units.
_CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Block:
    """Modules that are randomized together.

    `modules` are the paths of its units in the network, in order of execution; `parameters` and
    `buffers` the names of all their tensors. `cut` says that whatever the input does to the
    logits passes through the output of `modules[-1]`, so that a forward pass may start there.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    cut: bool


@dataclass(frozen=True)
class Stage:
    """A step of a sanity check: its name, and the names of the blocks that are random in it."""

    name: str
    blocks: tuple[str, ...]


def find_blocks(model: nn.Module, x: Tensor) -> tuple[Block, ...]:
    """Blocks of a network in order of execution, from one pass of the first image of ``x``.

    Modules that do not run, such as auxiliary heads, belong to no block. Sequences are taken
    apart, and so is a module with several parts that holds more than half of all parameters; what
    has no weight of two or more dimensions (norms, class tokens, positions) joins the block
    before it, or the first block of the module that owns it. Inception v3 gets the 17 stages of
    [adebayo2018sanity], figure 2, under its names.

    Raises ValueError for a network without parameters, or for one whose logits depend on
    parameters of modules that are never called.
    """
    network, x = network_of(model), x[:1]
    target = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    with attributing(model, x, target):
        calls, boundaries = _trace(model, network, x)
        blocks = _blocks(network, calls, boundaries)
        _refuse_uncalled(network, x, blocks)
        # The graph does not show what the input does without a gradient.
        valid = restartable(model, blocks, x)
    return tuple(replace(block, cut=block.name in valid) for block in blocks)


def _blocks(network: nn.Module, calls: dict[str, int], boundaries: set[str]) -> tuple[Block, ...]:
    groups: list[list[str]] = []
    strays: dict[str, tuple[str, Tensor]] = {}
    for path, kind in _units(network, calls):
        if kind == "owner":
            own = _own_tensors(network, path, recurse=False)
            strays |= {name: (path, tensor) for name, tensor in own}
        elif groups and not _weighty(network.get_submodule(path)):
            groups[-1].append(path)
        elif len(groups) == 1 and not any(_weighty(network.get_submodule(p)) for p in groups[0]):
            groups[0].append(path)
        else:
            groups.append([path])
    if not groups:
        raise ValueError(
            f"{type(network).__name__} has no parameters in modules that run: nothing to randomize"
        )
    return _named(network, groups, strays, boundaries)


def find_stages(blocks: Sequence[Block], order: str) -> tuple[Stage, ...]:
    """Stages in the order of randomization.

    ``top_down`` and ``bottom_up`` add block after block, from the logits or from the input, until
    the whole network is random; ``independent`` has each block alone, from the logits down, and
    then the whole network; ``full`` the whole network only. Raises ValueError for another order.
    """
    names = [block.name for block in blocks]
    whole = Stage(WHOLE, tuple(names))
    if order == "top_down":
        return tuple(Stage(name, tuple(names[i:])) for i, name in reversed([*enumerate(names)]))
    if order == "bottom_up":
        return tuple(Stage(name, tuple(names[: i + 1])) for i, name in enumerate(names))
    if order == "independent":
        return (*(Stage(name, (name,)) for name in reversed(names)), whole)
    if order == "full":
        return (whole,)
    raise ValueError(unknown("order", order, ORDERS))


def spread(stages: tuple[Stage, ...], limit: int) -> tuple[Stage, ...]:
    """At most ``limit`` of the stages, evenly spread, first and last among them; 0 for all."""
    if not limit or limit >= len(stages):
        return stages
    chosen = np.linspace(0, len(stages) - 1, limit).round().astype(int)
    return tuple(stages[i] for i in chosen)


def _parameters_below(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _weighty(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _own_tensors(
    network: nn.Module, path: str, *, recurse: bool
) -> Iterator[tuple[str, Tensor | nn.Parameter]]:
    module = network.get_submodule(path)
    yield from module.named_parameters(prefix=path, recurse=recurse)
    yield from module.named_buffers(prefix=path, recurse=recurse)


def _units(network: nn.Module, calls: dict[str, int]) -> list[tuple[str, str]]:
    """Paths of units, and of taken-apart modules that own tensors, in order of execution."""
    half = _parameters_below(network) / 2

    def first_call(path: str) -> int | None:
        inside = [order for name, order in calls.items() if f"{name}.".startswith(f"{path}.")]
        return min(inside, default=None)

    def by_call(child: tuple[int, str, nn.Module]) -> int:
        return child[0]

    def walk(path: str, module: nn.Module) -> Iterator[tuple[str, str]]:
        children = [
            (order, f"{path}.{name}".lstrip("."), child)
            for name, child in module.named_children()
            if (order := first_call(f"{path}.{name}".lstrip("."))) is not None
        ]
        holding = [child for _, _, child in children if _parameters_below(child)]
        apart = (
            not path
            or type(module) in _CHAINS
            or wrapped(module)
            or (len(holding) > 1 and _parameters_below(module) > half)
        )
        if not apart or not children:
            if next(_own_tensors(network, path, recurse=True), None) is not None:
                yield path, "unit"
            return
        inside = [unit for _, *child in sorted(children, key=by_call) for unit in walk(*child)]
        yield from inside
        if next(_own_tensors(network, path, recurse=False), None) is not None:
            yield path, "owner" if inside else "unit"

    return list(walk("", network))


def _named(
    network: nn.Module,
    groups: list[list[str]],
    strays: dict[str, tuple[str, Tensor]],
    boundaries: set[str],
) -> tuple[Block, ...]:
    learned = {id(tensor): name for name, tensor in network.named_parameters()}
    others = {id(tensor): name for name, tensor in network.named_buffers()}
    taken: set[int] = set()
    found: list[Block] = []
    for paths in groups:
        tensors = [t for path in paths for _, t in _own_tensors(network, path, recurse=True)]
        # A tensor of a module that was taken apart goes to the first block inside that module.
        for stray, (owner, tensor) in list(strays.items()):
            if not owner or any(f"{path}.".startswith(f"{owner}.") for path in paths):
                tensors.append(tensor)
                del strays[stray]
        # What two modules share has one name, and belongs to the one that runs first.
        own = [tensor for tensor in tensors if id(tensor) not in taken]
        taken |= {id(tensor) for tensor in own}
        parameters = [learned[id(tensor)] for tensor in own if id(tensor) in learned]
        buffers = [
            others[id(tensor)]
            for tensor in own
            if id(tensor) in others and tensor.is_floating_point()
        ]
        block = Block(
            name=_name(network, paths[0]),
            modules=tuple(paths),
            parameters=tuple(dict.fromkeys(parameters)),
            buffers=tuple(dict.fromkeys(buffers)),
            cut=paths[-1] in boundaries,
        )
        if found and not parameters:
            # Nothing of its own to randomize: all is shared with earlier blocks.
            before = found.pop()
            block = replace(
                before,
                modules=before.modules + block.modules,
                buffers=before.buffers + block.buffers,
                cut=block.cut,
            )
        found.append(block)
    return tuple(found)


def _name(network: nn.Module, path: str) -> str:
    if type(network).__name__ in ("Inception3", "InceptionV3"):
        return "logits" if path == "fc" else path.lower()
    return bare_name(network, path) or type(network).__name__.lower()


@contextmanager
def _hooked(network: nn.Module, calls: dict[str, list[Tensor | None]]) -> Iterator[None]:
    def remember(path: str):
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> object:
            if not isinstance(output, Tensor):
                calls[path].append(None)
                return None
            calls[path].append(output)
            # Whoever works in place on the output must not change what was remembered.
            return output.clone()

        return hook

    def enter(path: str):
        def hook(_module: nn.Module, _inputs: tuple) -> None:
            calls.setdefault(path, [])

        return hook

    handles = []
    try:
        for path, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(enter(path)))
            handles.append(module.register_forward_hook(remember(path)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _trace(model: nn.Module, network: nn.Module, x: Tensor) -> tuple[dict[str, int], set[str]]:
    """The order of first calls, and the modules through whose output alone the input acts."""
    calls: dict[str, list[Tensor | None]] = {}
    with recording(), _hooked(network, calls):
        leaf = x.detach().clone().requires_grad_()
        logits = model(leaf)
    once = {path: seen[0] for path, seen in calls.items() if len(seen) == 1}
    cuts = {
        path
        for path, output in once.items()
        if path and output is not None and output.grad_fn is not None
        if not _reaches(logits, leaf, without=output)
    }
    return {path: order for order, path in enumerate(calls) if path}, cuts


def _reaches(logits: Tensor, leaf: Tensor, without: Tensor) -> bool:
    """Whether a path leads from the logits to the leaf around the tensor ``without``."""
    seen, todo = {without.grad_fn}, [logits.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if getattr(node, "variable", None) is leaf:
            return True
        todo += [following for following, _ in node.next_functions]
    return False


def _refuse_uncalled(network: nn.Module, x: Tensor, blocks: Sequence[Block]) -> None:
    """Raise for parameters that act on the logits although they belong to no block."""
    known = {name for block in blocks for name in block.parameters}
    left = {name: value for name, value in network.named_parameters() if name not in known}
    if not left:
        return
    with recording():
        free = {name: value.detach().clone().requires_grad_() for name, value in left.items()}
        logits = torch.func.functional_call(network, free, (x.detach().clone(),))
        if not logits.requires_grad:
            return
        gradients = torch.autograd.grad(logits.sum(), list(free.values()), allow_unused=True)
    acting = [name for name, value in zip(free, gradients, strict=True) if value is not None]
    if acting:
        raise ValueError(
            f"parameters {', '.join(acting[:3])} of {type(network).__name__} act on the logits, "
            "but their module is never called, so that no block can be found for them; "
            "call the module instead of using its parameters"
        )
