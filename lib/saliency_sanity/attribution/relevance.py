"""The passes on which relevance is handed down: every call of a network gets its rule.

A function mode sees every call that Python makes, and no module is touched. The graph of a pass
hands down gradients whose product with a tensor is the relevance of that tensor. That is what
autograd does anyway where values are moved, multiplied by constants or rectified, and where the
largest is taken; sums are damped where they are near zero, layers have rules of their own. What has
no rule is refused, and so is a node of the graph that no call accounts for.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.affine import Affine, Elementwise, Output, Rule, Ruled
from saliency_sanity.attribution.graph import mark, marked, nodes
from saliency_sanity.attribution.ledger import Edge, Ledger, edge_of
from saliency_sanity.attribution.spellings import MATRICES, READERS, attended, named, opened
from saliency_sanity.networks.branching import place, saving_hooks, tensors
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.networks.forward import name_of
from saliency_sanity.networks.pairs import normalising

_MIXED = "mixed"  # of hidden units, too, or of several pixels


class Passing(TorchFunctionMode):
    """One forward pass of ``model`` from ``leaf`` on which every call gets its rule.

    ``rules`` are those of convolutions, of dense layers and of layers that see pixels, None where
    that is as any other; ``bounds`` the pixels' lowest and highest values, or nothing. With
    ``keep`` what does not hang on the label is computed once for all backward passes.
    """

    def __init__(
        self,
        model: nn.Module,
        leaf: Tensor,
        rules: tuple[Rule, Rule, Rule | None],
        bounds: Sequence[Tensor],
        keep: bool,
        ledger: Ledger | None = None,
    ):
        super().__init__()
        self.model, self.rules, self.keep, self.ledger = model, rules, keep, ledger
        self._saving = saving_hooks()
        self._outputs: dict[int, list[Output]] = defaultdict(list)  # by place in memory
        self._names = {id(module): name for name, module in network_of(model).named_modules()}
        if rules[2] is not None:
            leaf._pixels = (torch.ones_like(leaf, requires_grad=False), *bounds)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = list(tensors((args, kwargs)))
        gated = any(hasattr(one, "_gate") for one in given)
        inputs = [one for one in given if one.requires_grad] if torch.is_grad_enabled() else []
        rule = _RULES.get(func)
        if rule is None or not inputs:
            output = func(*args, **kwargs)
            for one in tensors(output):
                if one.requires_grad and inputs:
                    raise self.refusal(f"it calls {_name(func)!r}")
                if gated:
                    one._gate = True
            return output
        if gated and rule is not Passing._product:
            raise self.refusal(f"what a gate gives is no factor where it calls {_name(func)!r}")
        if rule is Passing._opened:
            return self._opened(func, args, kwargs)
        writes = bool(args) and overwrites(func, args, kwargs)
        # What is written to a view is written to its base, whose graph changes as well.
        base = [args[0]._base] if writes and args[0]._base is not None else []
        sources = [*inputs, *(one for one in base if one.requires_grad)]
        before = [one.grad_fn for one in sources if one.grad_fn is not None]
        if writes and func not in _RELUS:
            for earlier in self._outputs.get(place(args[0]), ()):
                earlier.value = earlier.value.clone()
        for one in inputs:
            if hasattr(one, "_made_by"):
                one._made_by[0].output.uses += 1
            if hasattr(one, "_normed"):
                one._normed[0].uses += 1
        known = self._edges(sources) if self.ledger is not None else {}
        rule, carried = self._carried(rule, func, args, kwargs, inputs)
        output = rule(self, func, args, kwargs)
        made = args[0] if output is None else output
        if (layer := getattr(made, "_made_by", None)) is not None:
            # With a batch norm in it, a layer's graph may start before what it was given.
            before.append(layer[0].x.grad_fn)
            known |= self._edges([layer[0].x]) if known else {}
        for number, one in enumerate(tensors(made) if carried else ()):
            one._pixels = carried if carried == _MIXED else tuple(each[number] for each in carried)
        changed = [made, base]
        inside = list(nodes(changed, before))
        mark(inside)
        if known:
            self.ledger.enter(f"{self._where()} {_name(func)}".strip(), changed, inside, known)
        return output

    def vet(self, logits: Tensor) -> None:
        """Raise NotApplicable where the graph has more than calls account for; ends the pass."""
        self._outputs.clear()
        if getattr(logits, "_pixels", None) is not None:
            raise self._mixture()
        idle = ("torch::autograd::AccumulateGrad", "BackwardHookFunctionBackward")
        for node in nodes(logits):
            if not marked(node) and node.name() not in idle:
                raise self.refusal(f"{node.name()!r} in its graph was made out of sight")

    def refusal(self, why: str) -> NotApplicable:
        """What says that the network has a part without a rule, and where."""
        where = self._where()
        where = where and f" in layer {where}"
        return NotApplicable(
            f"LRP cannot explain {name_of(self.model)}: {why}{where}. There is no rule for "
            "that, so relevance would be handed down by the plain gradient there. Use "
            "gradient_x_input for this network, or write that part with functions that have a rule"
        )

    def _mixture(self) -> NotApplicable:
        return NotApplicable(
            f"the input rule cannot be given to {name_of(self.model)}: one of its layers sees "
            "pixels and hidden units at once, or sums of pixels; use input_rule='same'"
        )

    def _where(self) -> str:
        """The module that makes the call: the innermost one that is running."""
        frame = sys._getframe(1)
        while frame is not None:
            module = frame.f_locals.get("self")
            if isinstance(module, nn.Module) and self._names.get(id(module)):
                return f"{self._names[id(module)]!r} ({type(module).__name__})"
            frame = frame.f_back
        return ""

    def _carried(
        self, rule: Callable, func: Callable, args: tuple, kwargs: dict, inputs: list[Tensor]
    ) -> tuple[Callable, Any]:
        """The rule of a call, and what it makes of pixels: of ones in their places, of bounds."""
        known = [getattr(one, "_pixels", None) for one in inputs]
        layer = rule is Passing._layer or (rule is Passing._bilinear and len(inputs) == 1)
        if not any(known) or rule is Passing._gate:
            return rule, None
        if layer and known != [_MIXED]:
            return rule, None
        if layer:
            raise self._mixture()
        if not all(known) or _MIXED in known:
            return rule, _MIXED

        def run(number: int) -> list[Tensor]:
            parts = (_swapped(part, lambda one: one._pixels[number]) for part in (args, kwargs))
            with torch.no_grad():
                found = func(*next(parts), **next(parts))
            return list(tensors(args[0]._pixels[number] if found is None else found))

        if rule in (Passing._moved, Passing._dropout):
            return rule, [run(number) for number in range(len(known[0]))]
        single = len(inputs) == 1 and (func in _SHIFTS or rule in _SCALINGS)
        if not single or (rule is not Passing._norm and not _fits(inputs[0], (args, kwargs))):
            return rule, _MIXED
        bounds = [run(number)[0] for number in range(1, len(known[0]))]
        bounds = [torch.minimum(*bounds), torch.maximum(*bounds)] if bounds else []
        rule = Passing._whole if self.rules[2].by_size else rule
        return rule, [[one] for one in (known[0][0], *bounds)]

    def _edges(self, inputs: Sequence[Tensor]) -> dict[Edge, Tensor]:
        """Where tensors are in the graph, and what a gradient there is to be multiplied by."""
        whole = self.rules[2] is not None and self.rules[2].by_size
        return {
            edge_of(one): torch.ones_like(one, requires_grad=False)
            if whole and hasattr(one, "_pixels")
            else one.detach().clone()
            for one in inputs
        }

    # Rules, each given a call

    def _moved(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        return func(*args, **kwargs)

    def _differentiated(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        return func(*args, **kwargs)

    def _whole(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        """Hand relevance on as it is, to the one input of each unit."""
        return self._elementwise(func, args, kwargs, whole=True)

    def _elementwise(self, func: Callable, args: tuple, kwargs: dict, whole: bool) -> Tensor:
        x = next(one for one in tensors((args, kwargs)) if one.requires_grad)
        writes = overwrites(func, args, kwargs)
        return Elementwise.apply(x, lambda: func(*args, **kwargs), writes, whole)

    def _activation(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        if func in READERS:
            _, floor, ceiling, _ = READERS[func](*args, **kwargs)
            if not (-inf if floor is None else floor) <= 0 <= ceiling:
                raise self.refusal(f"it calls {_name(func)!r} with bounds that exclude 0")
        return self._elementwise(func, args, kwargs, whole=False)

    def _dropout(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        if drops(*args, **kwargs):
            raise self.refusal(f"it calls {_name(func)!r} in training")
        return func(*args, **kwargs)

    def _gate(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        with torch.no_grad():
            output = func(*args, **kwargs).detach()
        output._gate = True
        return output

    def _product(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        return _shared(func(*args, **kwargs), (args, kwargs))

    def _quotient(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        if sum(one.requires_grad for one in tensors(args[:1])) != _hanging((args, kwargs)):
            raise self.refusal(f"it calls {_name(func)!r} with a divisor that depends on the input")
        return func(*args, **kwargs)

    def _bilinear(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        x, other = args if len(args) == 2 and func in MATRICES else (None, None)
        if x is None or (x.requires_grad and other.requires_grad):
            return _shared(self._damped(func(*args, **kwargs)), (args, kwargs))
        if x.requires_grad:
            return self._affine(func, x, other, None, dense=True, rows=False)
        return self._affine(lambda x, weight: func(weight, x), other, x, None, True, rows=False)

    def _sum(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        if func in _ADDITIONS and not kwargs and len(args) == 2:
            x, by = args if getattr(args[0], "requires_grad", False) else args[::-1]
            layer = _layer_of(x)
            constant = isinstance(by, Tensor) and not by.requires_grad
            if layer and constant and _fits(x, by):
                return self._merged(layer, layer.raised(by), func, args, kwargs)
        return self._damped(func(*args, **kwargs))

    def _norm(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        x, (mean, variance, weight, bias), eps = normalising(*args, **kwargs)
        if eps is None:
            raise self.refusal(f"it calls {_name(func)!r} with the statistics of its batch")
        scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - mean * scale
        layer = _layer_of(x)
        if layer is not None and layer.rows and x.shape[1] == len(layer.weight):
            return self._merged(layer, layer.scaled(scale, shift), func, args, kwargs)
        output = self._damped(func(*args, **kwargs))
        output._normed = self._outputs[place(output)][-1], output._version, x, scale, shift
        return output

    def _statistics(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        """Norms by a unit's own picture: the spread is a constant."""
        x, form, dims, weight, bias, eps, centred = _NORMS[func](*args, **kwargs)
        parts = x.reshape(form)
        if centred:
            parts = parts - parts.mean(dims, keepdim=True)
        spread = (parts.detach().square().mean(dims, keepdim=True) + eps).sqrt()
        output = (parts / spread).reshape(x.shape)
        output = output if weight is None else output * weight
        return self._damped(output if bias is None else output + bias)

    def _attention(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        query, key, value, mask, scale = attended(*args, **kwargs)
        if mask is NotImplemented:
            raise self.refusal(f"it calls {_name(func)!r} with dropout or shared heads")
        scores = self._bilinear(torch.matmul, (query * scale, key.transpose(-2, -1)), {})
        weights = (scores if mask is None else scores + mask).softmax(-1)
        return self._bilinear(torch.matmul, (weights, value), {})

    def _opened(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        with self:
            return opened(func)(*args, **kwargs)

    def _layer(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        x, weight, bias, options = _layered(*args, **kwargs)
        if any(one is not None and one.requires_grad for one in (weight, bias)):
            raise self.refusal(f"it calls {_name(func)!r} with weights that depend on the input")
        dense = func is F.linear
        if bias is not None and not dense:
            bias = bias.view(-1, *[1] * (weight.ndim - 2))

        def run(x: Tensor, weight: Tensor) -> Tensor:
            return func(x, weight, None, *options[0], **options[1])

        rows = x.ndim == 2 if dense else "transpose" not in _name(func)
        norm, version, before, *affine = getattr(x, "_normed", (None, 0, None))
        if norm is not None and version == x._version and rows and not hasattr(x, "_pixels"):
            norm.merged = True
            # Its padding is of zeros, so what is added differs from place to place.
            plus = affine[1].view(-1, *[1] * (x.ndim - 2)).expand_as(x[:1])
            bias = run(plus, weight) + (0 if bias is None else bias)
            parts = affine[0].view(-1, 1, weight.shape[1])
            parts = parts.expand(-1, len(weight) // len(parts), -1).reshape(weight.shape[:2])
            weight, x = weight * parts.view(*parts.shape, *[1] * (weight.ndim - 2)), before
        return self._affine(run, x, weight, bias, dense, rows, lambda: func(*args, **kwargs))

    # What rules are made of

    def _affine(
        self,
        run: Callable,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dense: bool,
        rows: bool,
        call: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        pixels = getattr(x, "_pixels", ())
        rule = self.rules[2] if pixels else self.rules[dense]
        layer = Affine(run, x, weight, bias, rule, pixels, rows, self.keep)
        return self._made(layer, call or (lambda: run(x, weight)))

    def _merged(
        self, before: Affine, layer: Affine, func: Callable, args: tuple, kwargs: dict
    ) -> Tensor:
        before.output.merged = True
        return self._made(layer, lambda: func(*args, **kwargs))

    def _made(self, layer: Affine, call: Callable[[], Tensor]) -> Tensor:
        """The output of a layer, which ``call`` gives."""
        if layer.rule.name == "epsilon":
            output = self._damped(call())
            layer.output = self._outputs[place(output)][-1]
        else:
            if saving_hooks() != self._saving:
                raise self.refusal("it computes a part again in the backward pass")
            with torch.no_grad():
                value = call()
            layer.output = Output(value.detach())
            output = Ruled.apply(layer.x, layer, [value])
            self._outputs[place(output)].append(layer.output)
        output._made_by = layer, output._version
        return output

    def _damped(self, output: Tensor) -> Tensor:
        """Have the gradient of a sum multiplied by what epsilon leaves of it."""
        made, epsilon, keep = Output(output.detach()), self.rules[0].epsilon, self.keep
        self._outputs[place(output)].append(made)
        output.register_hook(lambda gradient: made.damped(gradient, epsilon, keep))
        return output


def _layer_of(x: Tensor) -> Affine | None:
    """The layer that has made ``x`` and nobody has written on since."""
    layer, version = getattr(x, "_made_by", (None, 0))
    return layer if layer is not None and version == x._version else None


def _hanging(values: object) -> int:
    """How many tensors depend on the input."""
    return sum(one.requires_grad for one in tensors(values))


def _shared(output: Tensor, factors: object) -> Tensor:
    """A product that shares relevance equally among the factors that depend on the input."""
    if (number := _hanging(factors)) > 1:
        output.register_hook(lambda gradient: gradient / number)
    return output


def _fits(x: Tensor, others: object) -> bool:
    """Whether an operation of ``x`` and others, unit by unit, has the shape of ``x``."""
    return torch.broadcast_shapes(x.shape, *(one.shape for one in tensors(others))) == x.shape


def _swapped(values: Any, give: Callable[[Tensor], Tensor]) -> Any:
    """Arguments with other tensors for those that have pixels."""
    if isinstance(values, Tensor):
        return give(values) if hasattr(values, "_pixels") else values
    if type(values) in (list, tuple):
        return type(values)(_swapped(one, give) for one in values)
    if isinstance(values, dict):
        return {key: _swapped(one, give) for key, one in values.items()}
    return values


def _name(func: Callable) -> str:
    return getattr(func, "__name__", str(func))


def overwrites(func: Callable, args: tuple, kwargs: dict) -> bool:
    """Whether a call overwrites its first argument."""
    name = _name(func)
    inplace = name.startswith("__i") if name.endswith("__") else name.endswith("_")
    if func in READERS:
        inplace = READERS[func](*args, **kwargs)[3]
    return inplace or name == "__setitem__" or kwargs.get("inplace") is True


# Calls as they are written, read


def drops(input, p=0.5, training=True, *_rest, train=True, **_named):  # noqa: ARG001
    """Whether a dropout, called so, drops anything."""
    return training and train


def _layered(input, weight, bias=None, *rest, **named):
    return input, weight, bias, (rest, named)


def _layer_normed(input, normalized_shape, weight=None, bias=None, eps=1e-5, *_rest):
    dims = tuple(range(-len(normalized_shape), 0))
    return input, input.shape, dims, weight, bias, eps, True


def _rms_normed(input, normalized_shape, weight=None, eps=None):
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return *_layer_normed(input, normalized_shape, weight, None, eps)[:6], False


def _group_normed(input, num_groups, weight=None, bias=None, eps=1e-5, *_rest):
    form = (-1, *[1] * (input.ndim - 2))
    weight, bias = (one if one is None else one.view(form) for one in (weight, bias))
    return input, (len(input), num_groups, -1), (-1,), weight, bias, eps, True


_RELUS = {*named("relu relu_")}
_ADDITIONS = {*named("add __add__ __radd__")}
_SHIFTS = {*_ADDITIONS, *named("add_ __iadd__ sub sub_ subtract __sub__ __rsub__ __isub__ rsub")}
_NORMS = {
    **dict.fromkeys(named("layer_norm"), _layer_normed),
    **dict.fromkeys(named("group_norm"), _group_normed),
    **dict.fromkeys(named("rms_norm"), _rms_normed),
}

MOVES = """
    flatten unflatten ravel view view_as reshape reshape_as squeeze unsqueeze permute transpose t
    swapaxes swapdims movedim moveaxis adjoint contiguous clone to type type_as float double
    __getitem__ __setitem__ cat concat concatenate hstack vstack dstack stack chunk split
    split_with_sizes tensor_split unbind narrow select index_select gather take_along_dim expand
    expand_as broadcast_to repeat repeat_interleave tile roll flip rot90 pad unfold pixel_shuffle
    pixel_unshuffle channel_shuffle native_channel_shuffle interpolate upsample where masked_fill
    masked_fill_ requires_grad_"""
LARGEST = """
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices max maximum fmax amax min
    minimum fmin amin"""
KINKED = "relu relu_ leaky_relu leaky_relu_ prelu threshold threshold_ abs"
SCALED = "mul mul_ multiply __mul__ __rmul__ __imul__ neg negative __neg__"
CURVED = """
    relu6 hardtanh hardtanh_ clamp clamp_ clip clip_ clamp_min clamp_min_ gelu silu mish hardswish
    tanh tanh_ elu elu_ selu celu softsign tanhshrink softshrink hardshrink"""
SUMMED = """
    add add_ __add__ __radd__ __iadd__ sub sub_ subtract __sub__ __rsub__ __isub__ rsub sum mean
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"""
LINEAR = """
    linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"""

_RULES: dict[Callable, Callable] = {
    **dict.fromkeys(named(f"{MOVES} {LARGEST}"), Passing._moved),
    **dict.fromkeys(named(f"{KINKED} softmax"), Passing._differentiated),
    **dict.fromkeys(named("dropout dropout1d dropout2d dropout3d"), Passing._dropout),
    **dict.fromkeys(named(CURVED), Passing._activation),
    **dict.fromkeys(named("sigmoid sigmoid_ hardsigmoid"), Passing._gate),
    **dict.fromkeys(named(SCALED), Passing._product),
    **dict.fromkeys(
        named("div div_ divide true_divide __div__ __truediv__ __itruediv__ __rtruediv__"),
        Passing._quotient,
    ),
    **dict.fromkeys([*named("einsum"), *MATRICES], Passing._bilinear),
    **dict.fromkeys(named(SUMMED), Passing._sum),
    **dict.fromkeys(named(LINEAR), Passing._layer),
    F.batch_norm: Passing._norm,
    **dict.fromkeys(_NORMS, Passing._statistics),
    F.scaled_dot_product_attention: Passing._attention,
    F.multi_head_attention_forward: Passing._opened,
    **{getattr(torch.Tensor, key).__get__: Passing._moved for key in ("T", "mT", "H", "mH")},
}
_SCALINGS = (Passing._product, Passing._quotient, Passing._norm)
