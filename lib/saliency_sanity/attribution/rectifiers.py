"""Backward rules for rectifiers, put in place by intercepting the calls, not the modules.

Many networks (Inception v3, GoogLeNet, MobileNet v2, DenseNet's last layer) rectify through
functions: hooks on ``nn.ReLU`` modules see nothing there, and guided backpropagation silently
turns into the plain gradient. A function mode sees every call that Python makes, whoever makes it.
What it can't see, a scripted part say, leaves nodes in the graph, and a network with a rectifier
among those is refused.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import chunk_size, leaf_of, recording
from saliency_sanity.attribution.graph import mark, marked, nodes, strangers
from saliency_sanity.attribution.spellings import READERS, follow
from saliency_sanity.networks.branching import tensors
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.networks.folding import allowed
from saliency_sanity.networks.forward import logits_of, name_of, out_of_memory


class Rule(Protocol):
    """What a rectifier hands down: ``(gradient, output, ceiling) -> gradient``.

    ``output`` is the rectifier's own output; ``ceiling`` its upper bound, infinite for a ReLU and
    6 for a ReLU6. A rule may have ``elsewhere(func, args, kwargs)`` as well, which gives what
    another call of the pass is to give, or None where it is to run as it is; and
    ``overlooked(node)``, which says of a node of the graph that it stands for such a call. One with
    ``per_image`` takes what it is given to be ``[N, ...]``; one with ``convolutions`` has to see
    all convolutions as the network calls them.
    """

    def __call__(self, gradient: Tensor, output: Tensor, ceiling: float) -> Tensor: ...  # noqa: D102


def through(gradient: Tensor, output: Tensor, ceiling: float) -> Tensor:
    """The rectifier's true derivative: pass where the unit is neither off nor saturated."""
    if ceiling < inf:
        return torch.ops.aten.hardtanh_backward(gradient, output, 0, ceiling)
    return torch.ops.aten.threshold_backward(gradient, output, 0)


@dataclass(frozen=True)
class Guided:
    """Guided backpropagation: pass positive gradients through active units only.

    [springenberg2015striving]; the activity mask is the rectifier's output > 0, as in
    [pair-saliency] ``guided_backprop.py``.
    """

    def __call__(self, gradient: Tensor, output: Tensor, ceiling: float) -> Tensor:
        """Apply the rule."""
        # In place on what `through` has just made; the incoming gradient may have other readers.
        return through(gradient, output, ceiling).clamp_min_(0)


@dataclass(frozen=True)
class Deconv:
    """DeconvNet: pass positive gradients, whether the unit was active or not.

    [zeiler2014visualizing]
    """

    def __call__(self, gradient: Tensor, output: Tensor, ceiling: float) -> Tensor:  # noqa: ARG002
        """Apply the rule."""
        return gradient.clamp_min(0)


class _Rectifier(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rule, ceiling, inplace):
        if inplace:
            output = x.relu_() if ceiling == inf else x.clamp_(0, ceiling)
            ctx.mark_dirty(x)
        else:
            output = x.relu() if ceiling == inf else x.clamp(0, ceiling)
        ctx.save_for_backward(output)
        ctx.rule, ctx.ceiling = rule, ceiling
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (output,) = ctx.saved_tensors
        return ctx.rule(gradient, output, ctx.ceiling), None, None, None


_current: ContextVar["Interception | None"] = ContextVar("interception", default=None)


def interception() -> "Interception | None":
    """The interception that is in force, the innermost one; None where rectifiers are their own."""
    return _current.get()


class Interception(TorchFunctionMode):
    """Give every rectifier that takes part in a gradient the backward rule ``rule``.

    A rectifier is any call that clamps at zero from below: ReLU, ReLU6, hardtanh, clamp, maximum
    and threshold with a lower bound of 0, a leaky ReLU without slope, a gate by the input's own
    sign, in-place or not. Outputs do not change. ``hits`` counts the calls.

    A gradient through anything else that acts as a rectifier raises NotApplicable, which names it,
    and the layer where ``model`` is given.
    """

    def __init__(self, rule: Rule, model: nn.Module | None = None):
        super().__init__()
        self.rule, self.model = rule, model
        self.hits = 0
        self.lengths: set[int] = set()  # of the first dimension of what rectifiers were given
        self._elsewhere = getattr(rule, "elsewhere", None)
        self._overlooked = getattr(rule, "overlooked", None)

    def __enter__(self):
        self._token = _current.set(self)
        watched = getattr(self.rule, "convolutions", False)
        self._folding = allowed.set(allowed.get() and not watched)
        return super().__enter__()

    def __exit__(self, *exception):
        allowed.reset(self._folding)
        _current.reset(self._token)
        return super().__exit__(*exception)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Replace the call where it is a rectifier."""
        kwargs = kwargs or {}
        if func in _DIFFERENTIATING:
            self.vet(args[0], args[1:2])
        reader = READERS.get(func)
        looked_at = False
        if reader is not None and torch.is_grad_enabled():
            x, floor, ceiling, inplace = reader(*args, **kwargs)
            if floor == 0 and ceiling > 0 and "out" not in kwargs and x.requires_grad:
                self.hits += 1
                self.lengths.update(x.shape[:1])
                return _Rectifier.apply(x, self.rule, float(ceiling), inplace)
            looked_at = ceiling != 0 and (floor is None or abs(floor) > 0)
        if self._elsewhere is not None and torch.is_grad_enabled():
            output = self._elsewhere(func, args, kwargs)
            if output is not None:
                mark(one.grad_fn for one in tensors(output))
                return output
        output = func(*args, **kwargs)
        if looked_at:
            mark(one.grad_fn for one in tensors(x if output is None else output))
        follow(func, args, output)
        return output

    def vet(self, outputs: object, leaf: object = None) -> None:
        """Raise NotApplicable where the graph of ``outputs`` has what no rule was given to."""
        found = self._strangers(outputs)
        if found:
            layer = self._layer(next(tensors(leaf), None))
            raise NotApplicable(
                f"{self.rule} cannot be given to all rectifiers of {_name(self.model)}: "
                f"{', '.join(found)} in its graph{layer} acts as one, or may do so, and no call "
                "from Python was seen that makes it. The map would follow two rules. Write it as "
                "torch.relu or nn.ReLU, outside of scripted parts and of functions with a backward "
                "pass of their own; or use a method without a rule for rectifiers, as gradient"
            )

    def _strangers(self, outputs: object) -> list[str]:
        found = strangers(outputs)
        if self._overlooked is not None:
            calls = (node for node in nodes(outputs) if not marked(node))
            found += {node.name(): None for node in calls if self._overlooked(node)}
        return found

    def _layer(self, leaf: Tensor | None) -> str:
        """Where in the network it is: the innermost module that has it, if a pass tells."""
        if self.model is None or leaf is None:
            return ""
        found: list[str] = []

        def look(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
            if not found and self._strangers(output):
                place = "before" if self._strangers(inputs) else "in"
                found.append(f" ({place} layer {name!r}, {type(module).__name__})")

        handles = [
            module.register_forward_hook(partial(look, name))
            for name, module in network_of(self.model).named_modules()
            if name and not isinstance(module, torch.jit.ScriptModule)
        ]
        try:
            with recording(), Interception(self.rule):
                logits_of(self.model, leaf_of(self.model, leaf[:1]))
        except Exception:
            return ""
        finally:
            for handle in handles:
                handle.remove()
        return "".join(found)


def _name(model: nn.Module | None) -> str:
    return name_of(model) if model is not None else "the network"


_DIFFERENTIATING = {torch.autograd.grad, torch.Tensor.backward}
_apart: WeakKeyDictionary[nn.Module, set] = WeakKeyDictionary()


def images_apart(model: nn.Module, x: Tensor, rule: Rule) -> None:
    """Raise NotApplicable where a rectifier is given something else than images, ``[N, ...]``.

    Tried with one picture of ``x`` and with two, once for each network and size.
    """
    counts = range(1, min(chunk_size(x), 2) + 1)
    key, known = (x.shape[1:], x.dtype, counts), _apart.setdefault(model, set())
    for images in counts if key not in known else ():
        try:
            with recording(), Interception(rule) as tried:
                logits_of(model, leaf_of(model, x[:1].expand(images, *x.shape[1:])))
        except Exception as error:
            if out_of_memory(error):
                return  # that is for chunks of pictures, which grow smaller
            raise
        if not tried.lengths <= {images}:
            other = max(tried.lengths - {images})
            raise NotApplicable(
                f"{rule} ranks the units of each image by itself, but a rectifier of "
                f"{_name(model)} is given {other} as its first dimension where there is {images} "
                "image: images must come first, as with batch_first=True; or use "
                "guided_backprop, which needs no such order"
            )
    known.add(key)
