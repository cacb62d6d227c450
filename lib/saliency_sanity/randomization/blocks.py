"""Blocks of a network, found by running it: what is randomized together, in order of execution."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._errors import unknown
from saliency_sanity._hashing import bare_name, wrapped
from saliency_sanity.attribution.base import attributing, recording
from saliency_sanity.networks.branching import Branching
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.networks.forward import laid_out, logits_in, logits_of, manner

ORDERS = ("top_down", "bottom_up", "independent", "full")

# Everything at once; its maps are also what the prior is made of.
WHOLE = "all"

# What only chains its children; subclasses (a convolution with its norm) are units.
_CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Block:
    """Modules that are randomized together.

    `modules` are the paths of its units in the network, in order of execution; `parameters` and
    `buffers` the names of all their tensors.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A step of a sanity check: its name, and the names of the blocks that are random in it."""

    name: str
    blocks: tuple[str, ...]


def find_blocks(model: nn.Module, x: Tensor) -> tuple[Block, ...]:
    """Blocks of a network in order of execution, from one pass of the first image of ``x``.

    Where the way through it depends on values, as in a mixture of experts, from a pass of each
    image by itself; a module that none of them reaches has its place, too, since random weights
    may lead there. Elsewhere modules that do not run, such as auxiliary heads, belong to no block.
    Sequences are taken apart, and so is a module with several parts that holds more than half of
    all parameters; what has no weight of two or more dimensions (norms, class tokens, positions)
    joins the block before it, or the first block of the module that owns it. Inception v3 gets the
    17 stages of [adebayo2018sanity], figure 2, under its names. A scripted module is one block,
    with a warning: nobody sees what runs inside. Of quantized layers a warning says that their
    weights stay.

    Raises ValueError for a network without parameters, or for one whose logits depend on
    parameters of modules that are never called.
    """
    network, first = network_of(model), x[:1]
    target = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    with attributing(model, x, target):
        manner(model, x)  # found out before calls are seen
        order, branches = _trace(model, network, first)
        scripted = _scripted(network)
        if branches:
            ways = [_trace(model, network, image)[0] for image in x.split(1)]
            order = _merged(ways, [path for path, _ in network.named_modules()])
        elif scripted:
            seen = {*order, *scripted}
            order = _merged([order], [path for path, _ in network.named_modules() if path in seen])
        blocks = _blocks(network, {path: number for number, path in enumerate(order)})
        _refuse_uncalled(model, network, x if branches else first, blocks)
    packed = [path for path, part in network.named_modules() if hasattr(part, "_packed_params")]
    if kept := [path for path in packed if not path.endswith("_packed_params")]:
        warnings.warn(
            f"{', '.join(kept[:3])} of {type(network).__name__} is quantized, and keeps its "
            "learned weights at every stage; take the network from before it was quantized",
            stacklevel=2,
        )
    return blocks


def _blocks(network: nn.Module, calls: dict[str, int]) -> tuple[Block, ...]:
    groups: list[list[str]] = []
    strays: dict[str, tuple[str, Tensor]] = {}
    for path, kind in _units(network, calls):
        if kind == "owner":
            own = _own_tensors(network, path, recurse=False)
            strays |= {name: (path, tensor) for name, tensor in own}
        elif groups and not _weighty(_module(network, path)):
            groups[-1].append(path)
        elif len(groups) == 1 and not any(_weighty(_module(network, p)) for p in groups[0]):
            groups[0].append(path)
        else:
            groups.append([path])
    if not groups or not any(True for _ in network.parameters()):
        raise ValueError(
            f"{type(network).__name__} has no parameters in modules that run: nothing to randomize"
        )
    return _named(network, groups, strays)


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
    """At most ``limit`` of the stages, evenly spread, first and last among them; 0 for all.

    Of three or more the middle one, too: the last of a cascade with at most half of the blocks
    random.
    """
    if not limit or limit >= len(stages):
        return stages
    if limit == 2:
        return stages[0], stages[-1]
    steps, middle, last = limit - 1, len(stages) // 2 - 1, len(stages) - 1
    upper = min(max(round(steps * middle / last), 1), steps - 1)
    chosen = np.interp(range(limit), [0, upper, steps], [0, middle, last]).round()
    return tuple(stages[int(i)] for i in chosen)


def _parameters_below(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _weighty(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _module(network: nn.Module, path: str) -> nn.Module:
    # A scripted module can be asked for none, not even for itself.
    return network.get_submodule(path) if path else network


def _own_tensors(
    network: nn.Module, path: str, *, recurse: bool
) -> Iterator[tuple[str, Tensor | nn.Parameter]]:
    module = _module(network, path)
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
        if isinstance(module, torch.jit.ScriptModule):
            warnings.warn(
                f"{path or type(network).__name__} is scripted: it is randomized as one block, for "
                "nobody sees what runs inside; load the network's own class to see its layers",
                stacklevel=2,
            )
            yield path, "unit"
            return
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
        )
        if found and not parameters:
            # Nothing of its own to randomize: all is shared with earlier blocks.
            before = found.pop()
            block = replace(
                before,
                modules=before.modules + block.modules,
                buffers=before.buffers + block.buffers,
            )
        found.append(block)
    return tuple(found)


def _name(network: nn.Module, path: str) -> str:
    if type(network).__name__ in ("Inception3", "InceptionV3"):
        return "logits" if path == "fc" else path.lower()
    return bare_name(network, path) or type(network).__name__.lower()


def _trace(model: nn.Module, network: nn.Module, x: Tensor) -> tuple[list[str], bool]:
    """Modules by first call, and whether the way through the network depends on values."""
    calls: dict[str, None] = {}

    def enter(path: str) -> Callable:
        return lambda _module, _inputs: calls.setdefault(path)

    hidden = tuple(f"{path}.".lstrip(".") for path in _scripted(network))
    modules = [
        (path, module)
        for path, module in network.named_modules()
        if path and not f"{path}.".startswith(hidden)
    ]
    handles = [module.register_forward_pre_hook(enter(path)) for path, module in modules]
    try:
        with torch.no_grad(), Branching(network) as pass_:
            logits_of(model, pass_.starting(laid_out(model, x).clone()))
    finally:
        for handle in handles:
            handle.remove()
    return list(calls), pass_.branches


def _scripted(network: nn.Module) -> list[str]:
    """Paths of scripted modules that are not parts of others."""
    found: list[str] = []
    for path, module in network.named_modules():
        inside = any(f"{path}.".startswith(f"{outer}.".lstrip(".")) for outer in found)
        if isinstance(module, torch.jit.ScriptModule) and not inside:
            found.append(path)
    return found


def _merged(ways: Sequence[Sequence[str]], paths: Sequence[str]) -> list[str]:
    """Modules in one order, which keeps that of each way and asks nothing else of the images.

    What no way decides, and what ways contradict each other in, follows the order of ``paths``,
    in which they are defined.
    """
    before: dict[str, set[str]] = {path: set() for path in paths if path}
    for way in ways:
        for earlier, later in pairwise(way):
            before[later].add(earlier)
    merged: dict[str, None] = {}
    while left := [path for path in before if path not in merged]:
        ready = (path for path in left if before[path] <= merged.keys())
        merged[next(ready, left[0])] = None
    return list(merged)


def _refuse_uncalled(
    model: nn.Module, network: nn.Module, x: Tensor, blocks: Sequence[Block]
) -> None:
    """Raise for parameters that act on the logits although they belong to no block."""
    known = {name for block in blocks for name in block.parameters}
    left = {
        name: value
        for name, value in network.named_parameters()
        if name not in known and value.is_floating_point()
    }
    if not left:
        return
    with recording():
        free = {name: value.detach().clone().requires_grad_() for name, value in left.items()}
        outputs = [
            torch.func.functional_call(network, free, (laid_out(model, image).clone(),))
            for image in x.split(1)
        ]
        score = torch.stack([logits_in(output, 1).sum() for output in outputs]).sum()
        if not score.requires_grad:
            return
        gradients = torch.autograd.grad(score, list(free.values()), allow_unused=True)
    acting = [name for name, value in zip(free, gradients, strict=True) if value is not None]
    if acting:
        raise ValueError(
            f"parameters {', '.join(acting[:3])} of {type(network).__name__} act on the logits, "
            "but their module is never called, so that no block can be found for them; "
            "call the module instead of using its parameters"
        )
