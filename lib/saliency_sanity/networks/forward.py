"""How a network is handed its pictures, and how its logits are taken out of what it returns.

Whatever runs a network goes through here. Some work in place on their input, some cannot take
their input in another memory layout, some look at a whole batch, some hand no gradient down: that
is found out once for each network, by passes of a few pictures.
"""

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from saliency_sanity._arithmetic import is_exact
from saliency_sanity._errors import NotApplicable
from saliency_sanity.networks.branching import Branching
from saliency_sanity.networks.pairs import Pair, Watching

# Modules between a caller and a pass.
_BETWEEN = ("saliency_sanity", "torch", "contextlib", "functools")

_INNER = "_modules"
# Most of what a module has, passed over for speed.
_PLAIN = {bool, int, float, str, type(None)}

# Brightness of pictures that take a gate which looks at a whole batch to either side.
_EXTREME = 100.0

# Their derivative is zero wherever there is one; the last stand for operators without any, such as
# those of dynamic quantization, which hand down nothing or zeros.
_STEPS = ("Round", "Sign", "Floor", "Ceil", "Trunc", "WarnNotImplemented", "NotImplemented")


@dataclass(frozen=True)
class Manner:
    """How a network wants to be run.

    ``layout`` is the memory format of its input: ``channels_last``, in which convolutions are
    fast, where it gives the same logits. ``alone``: a picture has other logits in a batch than by
    itself, or the way through the network hangs on values, so that each goes through by itself;
    ``refusal`` says why it cannot, None where it can. ``cut`` says why no gradient reaches the
    pictures, None where one does. ``writes``: it works in place on its input. ``pairs``:
    convolutions of whose output nothing but a batch norm is made.
    """

    layout: torch.memory_format
    alone: bool = False
    refusal: str | None = None
    cut: str | None = None
    writes: bool = False
    pairs: tuple[Pair, ...] = ()


# How many pictures a pass may take at most; None for any number.
most: ContextVar[int | None] = ContextVar("most", default=None)

_known: WeakIdKeyDictionary = WeakIdKeyDictionary()
_spoken: WeakIdKeyDictionary = WeakIdKeyDictionary()


def name_of(model: nn.Module) -> str:
    """What a network is called in messages."""
    return str(getattr(model, "name", type(model).__name__))


def place_of(model: nn.Module) -> tuple[torch.device, torch.dtype] | None:
    """Device and type of a network's first floating-point tensor; None where it has none."""
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return None


def fitted(model: nn.Module, x: Tensor) -> Tensor:
    """Pictures ``x`` on the network's device and in its type."""
    place = place_of(model)
    return x if place is None else x.to(*place)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits ``[N, K]`` for inputs ``x``, in the memory layout that these have.

    The network gets a copy, on which it may work in place. It never runs under inference mode:
    what it keeps of such a pass would break every gradient after it. Warns once of logits that are
    not plainly what it returns. Raises as ``logits_in``.
    """
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            return logits_of(model, x)
    output = model(x.clone())
    logits = logits_in(output, len(x))
    if logits is not output or logits.shape[1] == 1:
        _say(model, output, logits)
    return logits


def quietly(model: nn.Module, x: Tensor) -> object:
    """What the network returns; hooks on itself, which may count passes, do not see this one."""
    try:
        output = model.forward(x)
        logits_in(output, len(x))
    except ValueError:
        # Unless it needs them.
        output = model(x)
    return output


def logits_in(output: object, images: int) -> Tensor:
    """The logits ``[N, K]`` in what a network returned for so many images.

    That is a tensor ``[N, K]``; the entry or attribute ``logits`` of a mapping, dataclass or named
    tuple; or the first entry ``[N, K]`` of another tuple or list, unless others are of its shape.
    One logit a picture, ``[N]``, is one class. Raises ValueError for anything else.
    """
    found, _ = _taken(output)
    if isinstance(found, Tensor) and found.is_floating_point():
        if found.ndim == 2 and len(found) == images:
            return found
        if found.ndim < 2 and (found.shape == (images,) or images == 1):
            return found.reshape(images, -1)
    raise ValueError(
        f"the model must return logits [{images}, K], not {_described(output)}; "
        "wrap it in a module that returns them"
    )


def _taken(output: object) -> tuple[object, str]:
    """What are the logits in ``output``, and where they were found; nothing for a tensor."""
    if isinstance(output, Tensor):
        return output, ""
    if isinstance(output, Mapping):
        return output.get("logits"), "its entry 'logits'"
    if hasattr(output, "logits"):
        return output.logits, "its attribute 'logits'"
    if isinstance(output, tuple | list) and output:
        first, *others = output
        alike = [one for one in others if getattr(one, "shape", None) == getattr(first, "shape", 0)]
        if getattr(first, "ndim", 0) == 2 and not alike:
            return first, "its first entry"
    return None, ""


def _described(output: object) -> str:
    if isinstance(output, Tensor):
        kind = "" if output.is_floating_point() else f"{output.dtype} "
        return f"{kind}{tuple(output.shape)}"
    kind = type(output).__name__
    if isinstance(output, Mapping):
        parts = [f"{key!r}: {_described(value)}" for key, value in list(output.items())[:8]]
    elif isinstance(output, tuple | list):
        parts = [_described(value) for value in output[:8]]
    else:
        return kind
    return f"{kind} of {', '.join(parts) or 'nothing'}"


def laid_out(model: nn.Module, x: Tensor) -> Tensor:
    """Inputs ``x`` in the memory layout that the network likes best, without a graph.

    Raises NotApplicable for a network that cannot take a picture by itself although what it makes
    of one hangs on the others.
    """
    found = manner(model, x)
    if found.refusal:
        raise NotApplicable(found.refusal)
    return _arranged(x.detach(), found.layout)


def _arranged(x: Tensor, layout: torch.memory_format) -> Tensor:
    """``x`` in a layout, also where a dimension of length 1 leaves its strides open."""
    if layout is torch.channels_last and x.shape[1] > 1 and x[0, 0].numel() > 1:
        return x.contiguous(memory_format=layout)
    return x.contiguous().flatten().view(x.shape)


@contextmanager
def held(model: nn.Module) -> Iterator[None]:
    """Hold a network still: evaluation mode, no gradients of parameters, no inference tensors.

    Inference tensors, which an earlier pass of the caller may have left in buffers, attributes or
    containers of these, cannot be part of a graph; copies take their places. Within the block
    only: everything comes back as it was, after an exception too.
    """
    modules = list(model.modules())
    training = [module for module in modules if module.training]
    swapped = [(home, key, home[key]) for module in modules for home, key in _inferred(module)]
    copies = []
    try:
        for home, key, tensor in swapped:
            with torch.inference_mode(False):
                copies.append(_ordinary(tensor))
            home[key] = copies[-1]
        differentiable = [p for p in model.parameters() if p.requires_grad]
        for module in training:
            module.training = False
        for parameter in differentiable:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for module in training:
                module.training = True
            for parameter in differentiable:
                parameter.requires_grad_(True)
    finally:
        for (home, key, tensor), copy in zip(swapped, copies, strict=False):
            # Unless the network itself has put something else there.
            if _at(home, key) is copy:
                home[key] = tensor


def _at(home: dict | list, key: object) -> object:
    try:
        return home[key]
    except (KeyError, IndexError):
        return None


def _inferred(module: nn.Module) -> Iterator[tuple[dict | list, object]]:
    """Where a module keeps inference tensors: a dictionary or list, and the key."""
    own = vars(module)
    homes = [own]
    homes += [v for k, v in own.items() if type(v) not in _PLAIN and _holds(v) and k != _INNER]
    for home in homes:
        for key, value in home.items() if isinstance(home, dict) else enumerate(home):
            if type(value) in _PLAIN:
                continue
            if isinstance(value, Tensor):
                if value.is_inference():
                    yield home, key
            elif isinstance(value, tuple) and any(
                isinstance(one, Tensor) and one.is_inference() for one in value
            ):
                yield home, key


def _holds(value: object) -> bool:
    return isinstance(value, (dict, list)) and bool(value)


def _ordinary(value: Tensor | tuple) -> Tensor | tuple:
    if isinstance(value, tuple):
        parts = [_ordinary(v) if isinstance(v, Tensor) else v for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    copy = value.detach().clone()
    if isinstance(value, nn.Parameter):
        return nn.Parameter(copy, requires_grad=value.requires_grad)
    return copy


class Ordered(TorchFunctionMode):
    """Give each batch norm its gradient in the order of memory that its input has.

    Of one contiguous picture, torch (2.13 to 2.15 at least) reads a gradient that comes back from
    ``flatten(2).transpose(1, 2)`` as if its channels were last, and mixes up places and channels:
    maps of LeViT, XCiT and EfficientFormer are off by all they are.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Make the call, and mend what comes back to it."""
        output = func(*args, **(kwargs or {}))
        if func in _NORMS and len(output) == 1 and output.requires_grad:
            last = output.ndim == 4 and not output.is_contiguous()
            order = torch.channels_last if last else torch.contiguous_format
            output.register_hook(lambda gradient: gradient.contiguous(memory_format=order))
        return output


_NORMS = (torch.nn.functional.batch_norm, torch.batch_norm)


def manner(model: nn.Module, x: Tensor) -> Manner:
    """How the network is to be run for inputs like ``x`` ``[N, C, H, W]``.

    Found out by two passes or so of a few pictures, once for each network, its modules, and shape
    and type of the inputs. Where they fail, the next pass is to say why.
    """
    modules, several = tuple(map(id, model.modules())), most.get() != 1
    cast = torch.is_autocast_enabled(x.device.type)
    key = (x.shape[1:], x.dtype, x.device, cast, several, modules)
    found = _known.setdefault(model, {})
    if key not in found:
        with held(model), torch.inference_mode(False), torch.enable_grad(), own_draws(x):
            found[key] = _tried(model, x.detach())
    return found[key]


def _tried(model: nn.Module, x: Tensor) -> Manner:
    first = _arranged(x[:1], torch.contiguous_format).clone()
    # In company of one that is unlike it; others of ``x`` may be its copies, with some noise.
    batch, *extremes = (
        torch.cat([first, other])[: most.get()]
        for other in (1 - first.flip(2, 3) / 2, first + _EXTREME, first - _EXTREME)
    )
    plain, fast = torch.contiguous_format, torch.channels_last
    try:
        own, writes, cut, pairs = _alone(model, first)
    except Exception as error:
        try:
            _run(model, batch, plain)
        except Exception:
            return Manner(plain)
        if len(batch) == 1 or out_of_memory(error):
            return Manner(plain)
        refusal = (
            f"{name_of(model)} takes no picture by itself ({error}), so what it makes of a picture "
            "depends on the others; give its batch norms running statistics, for example"
        )
        return Manner(plain, refusal=refusal)

    def agrees(inputs: Tensor, layout: torch.memory_format) -> bool:
        try:
            found = _run(model, inputs, layout)[:1]
        except Exception as error:
            # One that fits by itself is all that is known; it is for chunks to grow smaller.
            return out_of_memory(error)
        apart, scale = (found - own).abs().amax(), own.abs().amax()
        return bool(apart <= rounding(model, own) * scale) or bool(own.isnan().any())

    found = Manner(fast, cut=cut, writes=writes, pairs=pairs)
    if len(batch) == 1 or not _branches(model, first):
        for layout in (fast, plain):
            if agrees(batch, layout) and all(agrees(each, layout) for each in extremes):
                return replace(found, layout=layout)
    return replace(found, layout=fast if agrees(first, fast) else plain, alone=True)


def _branches(model: nn.Module, x: Tensor) -> bool:
    """Whether the way through the network depends on the picture: in company it may be another."""
    try:
        # Values of weights are no matter: they are the same for all pictures.
        with torch.no_grad(), Branching(nn.Identity()) as followed:
            quietly(model, followed.starting(x.clone()))
    except Exception:
        return False
    return followed.branches


def _run(model: nn.Module, x: Tensor, layout: torch.memory_format) -> Tensor:
    leaf = _arranged(x, layout).detach().requires_grad_()
    logits = logits_in(quietly(model, leaf.clone()), len(x))
    # Somebody's own backward pass may ask for a layout, too; those of torch do not.
    if any(isinstance(node, torch.autograd.function.BackwardCFunction) for node in _nodes(logits)):
        torch.autograd.grad(logits.sum(), leaf, allow_unused=True)
    return logits.detach()


def _alone(model: nn.Module, x: Tensor) -> tuple[Tensor, bool, str | None, tuple[Pair, ...]]:
    """Logits of one picture, whether the network wrote on it, what cuts its graph, and pairs."""
    leaf = x.clone().requires_grad_()
    given = leaf.clone()
    watching = Watching(model)
    try:
        with watching:
            output = quietly(model, given)
    except RuntimeError as error:
        # Without a graph it may run.
        with torch.no_grad():
            given = x.clone()
            try:
                output = quietly(model, given)
            except RuntimeError:
                raise error from None
        cut = f"its pass cannot be recorded ({error})"
    else:
        cut = None
    logits = logits_in(output, 1)
    if cut is None and not reaches(logits, leaf):
        cut = (
            "a part of it runs without a graph (no_grad, inference_mode, detach, quantized or "
            "compiled layers), or is a step, whose derivative is zero"
        )
    wrote = not torch.equal(given.detach(), x)
    return logits.detach(), wrote, cut, tuple(watching.pairs())


def _say(model: nn.Module, output: object, logits: Tensor) -> None:
    """Say once for each network what was taken as its logits, where that is no matter of course."""
    _, what = _taken(output)
    said = [f"{what} is taken as its logits"] if what else []
    if logits.shape[1] == 1:
        said += ["one logit a picture is its only class, 0, with the sigmoid as probability"]
    if said and model not in _spoken:
        _spoken[model] = said
        message = f"{name_of(model)} returns {type(output).__name__}: {'; '.join(said)}"
        warnings.warn(message, stacklevel=_caller())


def _caller() -> int:
    """How many frames up from ``_say`` this library was called."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    return level


def reaches(logits: Tensor, leaf: Tensor) -> bool:
    """Whether a path leads from the logits to the leaf on which derivatives are not all zero."""
    return any(getattr(node, "variable", None) is leaf for node in _nodes(logits))


def _nodes(logits: Tensor) -> Iterator[torch.autograd.graph.Node]:
    """The graph behind ``logits``, up to what has a derivative of zero."""
    seen, todo = set(), [logits.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen or node.name().split("::")[-1].startswith(_STEPS):
            continue
        seen.add(node)
        yield node
        todo += [before for before, _ in node.next_functions]


def rounding(model: nn.Module, logits: Tensor) -> float:
    """How far logits may be apart by rounding, in units of the largest: far above what is seen."""
    types = {t.dtype for t in (logits, *model.parameters()) if t.is_floating_point()}
    place = logits.device.type
    if torch.is_autocast_enabled(place):
        types.add(torch.get_autocast_dtype(place))
    digits = max(torch.finfo(kind).eps for kind in types)
    if place != "cpu" or not is_exact(logits.device):
        digits = max(digits, 2**-10)  # those of TF32
    return digits**0.5


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    # The CPU allocator has no exception class of its own.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


@contextmanager
def own_draws(x: Tensor) -> Iterator[None]:
    """Leave the generators that all code shares as they are."""
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        yield
