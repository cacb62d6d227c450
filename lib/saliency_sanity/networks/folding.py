"""Batch norms folded into the convolutions before them, for one pass.

In evaluation mode a batch norm scales and shifts each channel, which the weights of the convolution
before it can do as well. No module and no tensor of the network is touched: the two calls of a pair
are intercepted. The convolution gives a stand-in without memory, the batch norm what both give. A
pass in which anything else gets hold of a stand-in is run again as it is written.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
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
from saliency_sanity.networks.convolution import Dense, Packed, kernel
from saliency_sanity.networks.forward import (
    logits_of,
    manner,
    out_of_memory,
    own_draws,
    rounding,
)
from saliency_sanity.networks.pairs import (
    HARMLESS,
    Convolving,
    Normalising,
    Pair,
    Tensors,
    among,
)

T = TypeVar("T")
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


class StrayedError(Exception):
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
    model: nn.Module,
    x: Tensor,
    run: Callable[[], T],
    homes: Mapping[nn.Module, object] | None = None,
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
        if out_of_memory(error):
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
    norms = False
    for module in modules:
        norms = norms or isinstance(module, _BatchNorm)
        if isinstance(module, torch.jit.ScriptModule) or any(
            getattr(module, kind) for kind in HOOKS
        ):
            return False
    return norms


def _plan(model: nn.Module, modules: list[nn.Module], x: Tensor) -> "_Plan":
    """How passes over inputs like ``x`` are folded, found out once."""
    key = (x.shape[1:], x.dtype, x.device, *map(id, modules))
    plans = _known.setdefault(model, {})
    if key not in plans:
        pairs = manner(model, x).pairs if x.dtype in (torch.float32, torch.float64) else ()
        if not x.is_cuda:
            pairs = tuple(pair for pair in pairs if pair.output[1:].numel() >= _PLACES)
            if sum(pair.output.numel() for pair in pairs) < _NUMBERS:
                pairs = ()
        plan = _Plan(pairs)
        with torch.inference_mode(False), torch.enable_grad(), own_draws(x):
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
        own = logits_of(model, x.clone().requires_grad_()).detach()
        with plan.folded(modules):
            found = logits_of(model, x.clone().requires_grad_()).detach()
    except Exception as error:
        if out_of_memory(error):
            raise
        return False
    return bool((found - own).abs().amax() <= rounding(model, own) * own.abs().amax())


@dataclass
class _Kernel:
    run: Dense | Packed
    of: list[bytearray | None] | None  # what it was made of, to the last bit; None on a GPU

    def made_of(self, found: Tensors) -> bool:
        if self.of is None:
            return False  # to fold again takes no longer than to compare
        return all(
            before is None if own is None else before == _bytes(own)
            for own, before in zip(found, self.of, strict=True)
        )


def _bytes(tensor: Tensor) -> memoryview:
    """A tensor's memory; its dimensions in another order where that saves a copy."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.movedim(1, -1)
    return memoryview(tensor.contiguous().numpy())


@dataclass
class _Plan:
    pairs: tuple[Pair, ...]
    kernels: dict[Pair, _Kernel] = field(default_factory=dict)

    @contextmanager
    def folded(
        self, modules: list[nn.Module], homes: Mapping[nn.Module, object] | None = None
    ) -> Iterator[None]:
        """Fold every pass within the block; raises StrayedError where one cannot be."""
        found: dict[Pair, Tensors] = {}
        for pair in self.pairs:
            tensors = pair.tensors(modules)
            fixed = not any(t is not None and t.requires_grad for t in tensors)
            if fixed and not (homes and pair.parted(modules, homes)):
                found[pair] = tensors
        with torch.no_grad():
            self._fold({pair: t for pair, t in found.items() if not self._is_fresh(pair, t)})
        mode = _Folding({id(t[0]): (pair, t, self.kernels[pair].run) for pair, t in found.items()})
        with mode:
            yield
        mode.finish()

    def _is_fresh(self, pair: Pair, found: Tensors) -> bool:
        """Whether what was folded is what the network has now."""
        # Versions alone do not tell: neither .data nor a batch norm in training changes any.
        now = [(one, one._version) for one in found if one is not None]
        trusted, kernel = _trusted.get(), self.kernels.get(pair)
        before = trusted.get(pair) if trusted is not None else None
        if trusted is not None:
            trusted[pair] = now
        if kernel is None:
            return False
        same = before is not None and all(
            one is other and version == was
            for (one, version), (other, was) in zip(now, before, strict=True)
        )
        return same or kernel.made_of(found)

    def _fold(self, stale: dict[Pair, Tensors]) -> None:
        if not stale:
            return
        sizes = [len(weight) for weight, *_ in stale.values()]

        # Vectors of all pairs in a row: on a GPU few calls are what counts.
        def row(place: int, otherwise: float) -> Tensor:
            parts = (
                weight.new_full((count,), otherwise) if own[place] is None else own[place]
                for count, own in zip(sizes, stale.values(), strict=True)
                for weight in own[:1]
            )
            return torch.cat(list(parts)).double()

        eps = [pair.eps for pair, count in zip(stale, sizes, strict=True) for _ in range(count)]
        bias, mean, variance, factor, term = (row(n, float(n == 4)) for n in range(1, 6))
        scale = factor / (variance + torch.tensor(eps, dtype=torch.float64).to(mean)).sqrt()
        shift = term + (bias - mean) * scale
        dtype = next(iter(stale.values()))[0].dtype
        parts = zip(scale.to(dtype).split(sizes), shift.to(dtype).split(sizes), strict=True)
        for (pair, own), (by, plus) in zip(stale.items(), parts, strict=True):
            run = kernel(own[0] * by.view(-1, 1, 1, 1), plus, pair.options, pair.size)
            copies = None
            if own[0].device.type == "cpu":
                copies = [None if t is None else bytearray(_bytes(t)) for t in own]
            self.kernels[pair] = _Kernel(run, copies)


class _Folding(TorchFunctionMode):
    """Give a stand-in for each convolution, and for its batch norm what both give."""

    def __init__(self, pairs: dict[int, tuple[Pair, Tensors, Dense | Packed]]):
        super().__init__()
        self._pairs = pairs  # by the convolution's weight
        self._stands: dict[int, Tensor] = {}
        self._waiting: dict[int, tuple] = {}  # calls that have still to be made

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.conv2d:
            call = Convolving.read(*args, **kwargs)
            if id(call.weight) in self._pairs:
                return self._stand(call)
        elif func is F.batch_norm:
            norm = Normalising.read(*args, **kwargs)
            if norm is not None and id(norm.x) in self._waiting:
                return self._both(norm)
        if func not in HARMLESS and next(among((args, kwargs), self._stands), None) is not None:
            raise StrayedError
        return func(*args, **kwargs)

    def _stand(self, call: Convolving) -> Tensor:
        pair, own, _ = self._pairs[id(call.weight)]
        if call.options != pair.options or call.bias is not own[1]:
            raise StrayedError
        places = zip(call.x.shape[2:], own[0].shape[2:], *call.options[:3], strict=True)
        shape = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in places]
        stand = call.x.new_empty((len(call.x), len(own[0]), *shape), device="meta")
        self._stands[id(stand)] = stand
        # Later calls with these weights, if there are any, are as they are written.
        self._waiting[id(stand)] = call, call.x._version, self._pairs.pop(id(call.weight))
        return stand

    def _both(self, norm: Normalising) -> Tensor:
        call, version, (pair, own, run) = self._waiting.pop(id(norm.x))
        same = all(one is other for one, other in zip(norm.tensors, own[2:], strict=True))
        if not same or norm.eps != pair.eps or call.x._version != version:
            raise StrayedError
        return run(call.x)

    def finish(self) -> None:
        """Raise StrayedError where a stand-in is left over, or somebody has kept one."""
        kept = [ref(stand) for stand in self._stands.values()]
        self._stands.clear()
        if self._waiting or any(stand() is not None for stand in kept):
            raise StrayedError
