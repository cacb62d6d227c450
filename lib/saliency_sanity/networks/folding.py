"""Batch norms folded into the convolutions before them, for one pass.

In evaluation mode a batch norm scales and shifts each channel, which the weights of the convolution
before it can do as well. No module and no tensor of the network is touched: the two calls of a pair
are intercepted. The convolution gives a stand-in without memory, the batch norm what both give. A
pass in which anything else gets hold of a stand-in is run again as it is written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import eq, is_
from typing import TypeVar
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.weak import WeakIdKeyDictionary

from saliency_sanity._attributes import HOOKS
from saliency_sanity.networks import forward
from saliency_sanity.networks.convolution import Options, convolution
from saliency_sanity.networks.pairs import HARMLESS, Pair, Tensors, among, convolving, normalising

T = TypeVar("T")
Kernel = Callable[[Tensor], Tensor]
_LIBRARY = __name__.partition(".")[0]

# False where a pass is to make every call that the network is written to make.
allowed: ContextVar[bool] = ContextVar("allowed", default=True)

# What each pair was folded of, with versions; within a block in which nothing else writes to it.
_trusted: ContextVar[dict[Pair, list] | None] = ContextVar("trusted", default=None)

# From where on it pays on a CPU, for one picture, whatever the batch: places in the output at which
# each weight is used, since to see that weights are what they were all are looked at; and numbers
# in all outputs of pairs, since each call of a pass is intercepted.
_PLACES, _NUMBERS = 49, 2**20

_known: WeakIdKeyDictionary = WeakIdKeyDictionary()


class UnfoldedError(Exception):
    """Something else than its batch norm took what a convolution gives."""


@contextmanager
def trusting() -> Iterator[None]:
    """Compare weights with those that were folded once within the block, not at every pass."""
    token = _trusted.set({})
    try:
        yield
    finally:
        _trusted.reset(token)


def folding(
    model: nn.Module, x: Tensor, run: Callable[[], T], homes: dict[nn.Module, str] | None = None
) -> T:
    """What ``run()`` gives, a pass of ``model`` over inputs like ``x``, with batch norms folded.

    The same as without, up to rounding. Nothing is folded where hooks or modes of somebody else
    look on, where parts are scripted, types are cast or parameters have gradients, and where a pass
    went another way; and no pair whose two have different ``homes``. Whether all goes well is found
    out by two passes of one picture, once for each network and size.
    """
    modules = list(model.modules())
    if not (allowed.get() and _unseen(modules, x)):
        return run()
    plan = _plan(model, modules, x)
    if not plan.pairs:
        return run()
    try:
        with plan.folded(modules, homes):
            return run()
    except Exception as error:
        if forward.out_of_memory(error):
            raise
    # Outside the handler, so that the failed pass's frames no longer hold its tensors.
    found = run()
    plan.pairs = ()
    plan.kernels.clear()
    return found


def _unseen(modules: list[nn.Module], x: Tensor) -> bool:
    """Whether nobody looks at what modules and calls are given, and there is a batch norm."""
    modes = [*_get_current_function_mode_stack(), *_get_current_dispatch_mode_stack()]
    foreign = any(
        not isinstance(mode, DeviceContext) and not type(mode).__module__.startswith(_LIBRARY)
        for mode in modes
    )
    if foreign or _has_any_global_hook() or torch.is_autocast_enabled(x.device.type):
        return False
    scripted = any(isinstance(module, torch.jit.ScriptModule) for module in modules)
    hooked = any(getattr(module, kind) for module in modules for kind in HOOKS)
    return not (scripted or hooked) and any(isinstance(m, _BatchNorm) for m in modules)


def _plan(model: nn.Module, modules: list[nn.Module], x: Tensor) -> "_Plan":
    """How passes over inputs like ``x`` are folded, found out once."""
    key = (x.shape[1:], x.dtype, x.device, *map(id, modules))
    plans = _known.setdefault(model, {})
    if key not in plans:
        pairs = forward.manner(model, x).pairs if x.dtype in (torch.float32, torch.float64) else ()
        if not x.is_cuda:
            pairs = tuple(pair for pair in pairs if pair.output[1:].numel() >= _PLACES)
            if sum(pair.output.numel() for pair in pairs) < _NUMBERS:
                pairs = ()
        plan = _Plan(pairs)
        with torch.inference_mode(False), torch.enable_grad(), forward.own_draws(x):
            if pairs and not _agrees(plan, model, modules, x.detach()[:1]):
                plan = _Plan(())
        plans[key] = plan
    for other in plans.values():
        if other is not plans[key]:
            other.kernels.clear()  # as large as the network, each
    return plans[key]


def _agrees(plan: "_Plan", model: nn.Module, modules: list[nn.Module], x: Tensor) -> bool:
    """Whether a network gives the same logits when it is folded."""
    try:
        own = forward.logits_of(model, x.clone().requires_grad_()).detach()
        with plan.folded(modules):
            found = forward.logits_of(model, x.clone().requires_grad_()).detach()
    except Exception as error:
        if forward.out_of_memory(error):
            raise
        return False
    return bool((found - own).abs().amax() <= forward.rounding(model, own) * own.abs().amax())


def _bytes(tensor: Tensor | None) -> memoryview:
    """A tensor's memory; its dimensions in another order where that saves a copy."""
    if tensor is None:
        return memoryview(b"")
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.movedim(1, -1)
    return memoryview(tensor.contiguous().numpy())


@dataclass
class _Plan:
    pairs: tuple[Pair, ...]
    # What each was folded into, and what it was made of, to the last bit; None on a GPU, where to
    # fold again takes no longer than to compare.
    kernels: dict[Pair, tuple[Kernel, list[bytearray] | None]] = field(default_factory=dict)

    @contextmanager
    def folded(
        self, modules: Sequence[nn.Module], homes: Mapping[nn.Module, object] | None = None
    ) -> Iterator[None]:
        """Fold every pass within the block; raises UnfoldedError where one cannot be."""
        found: dict[Pair, Tensors] = {}
        for pair in self.pairs:
            tensors = pair.tensors(modules)
            wanted = any(t is not None and t.requires_grad for t in tensors)
            if not wanted and not (homes and pair.is_parted(modules, homes)):
                found[pair] = tensors
        with torch.no_grad():
            self._fold({pair: t for pair, t in found.items() if not self._is_fresh(pair, t)})
        mode = _Folding({id(t[0]): (pair, t, self.kernels[pair][0]) for pair, t in found.items()})
        with mode:
            yield
        mode.finish()

    def _is_fresh(self, pair: Pair, found: Tensors) -> bool:
        """Whether what was folded is what the network has now."""
        kernel, before = self.kernels.get(pair), ((), ())
        versions = [tensor is not None and tensor._version for tensor in found]
        if (trusted := _trusted.get()) is not None:
            before = trusted.get(pair, before)
            trusted[pair] = found, versions
        if kernel is None:
            return False
        # Versions alone do not tell: neither .data nor a batch norm in training changes any.
        if before[1] == versions and all(map(is_, before[0], found)):
            return True
        return kernel[1] is not None and all(map(eq, kernel[1], map(_bytes, found)))

    def _fold(self, stale: dict[Pair, Tensors]) -> None:
        if not stale:
            return
        first = next(iter(stale.values()))[0]
        counts = [len(own[0]) for own in stale.values()]

        # Vectors of all pairs in a row: on a GPU few calls are what counts.
        def row(place: int, otherwise: float) -> Tensor:
            of = [first.new_full((len(own[0]),), otherwise) for own in stale.values()]
            own = [own[place] for own in stale.values()]
            return torch.cat([a if b is None else b for a, b in zip(of, own, strict=True)]).double()

        bias, mean, variance, factor, term = (row(n, float(n == 4)) for n in range(1, 6))
        eps = [pair.eps for pair, count in zip(stale, counts, strict=True) for _ in range(count)]
        scale = factor / (variance + mean.new_tensor(eps)).sqrt()
        shift = term + (bias - mean) * scale
        parts = (whole.to(first.dtype).split(counts) for whole in (scale, shift))
        for (pair, own), by, plus in zip(stale.items(), *parts, strict=True):
            kernel = convolution(own[0] * by.view(-1, 1, 1, 1), plus, pair.options, pair.size)
            of = [bytearray(_bytes(t)) for t in own] if first.device.type == "cpu" else None
            self.kernels[pair] = kernel, of


class _Folding(TorchFunctionMode):
    """Give a stand-in for each convolution, and for its batch norm what both give."""

    def __init__(self, pairs: dict[int, tuple[Pair, Tensors, Kernel]]):
        super().__init__()
        self._pairs = pairs  # by the convolution's weight
        self._stands: dict[int, Tensor] = {}
        self._waiting: dict[int, tuple] = {}  # calls that have still to be made

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.conv2d:
            call = convolving(*args, **kwargs)
            if id(call[1]) in self._pairs:
                return self._stand(*call)
        elif func is F.batch_norm:
            call = normalising(*args, **kwargs)
            if id(call[0]) in self._waiting:
                return self._both(*call)
        if func not in HARMLESS and next(among((args, kwargs), self._stands), None) is not None:
            raise UnfoldedError
        return func(*args, **kwargs)

    def _stand(self, x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
        # Later calls with these weights, if there are any, are as they are written.
        pair, own, kernel = self._pairs.pop(id(weight))
        if options != pair.options or bias is not own[1]:
            raise UnfoldedError
        places = zip(x.shape[2:], weight.shape[2:], *options[:3], strict=True)
        shape = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in places]
        stand = x.new_empty((len(x), len(weight), *shape), device="meta")
        self._stands[id(stand)] = stand
        self._waiting[id(stand)] = x, x._version, own[2:], pair.eps, kernel
        return stand

    def _both(self, stand: Tensor, tensors: Tensors, eps: float | None) -> Tensor:
        x, version, own, expected, kernel = self._waiting.pop(id(stand))
        if eps != expected or x._version != version or not all(map(is_, tensors, own)):
            raise UnfoldedError
        return kernel(x)

    def finish(self) -> None:
        """Raise UnfoldedError where a stand-in is left over, or somebody has kept one."""
        kept = [ref(stand) for stand in self._stands.values()]
        self._stands.clear()
        if self._waiting or any(stand() is not None for stand in kept):
            raise UnfoldedError
