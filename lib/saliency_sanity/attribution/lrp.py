"""Layer-wise relevance propagation, by the rules of zennit.

zennit's rules act where modules are called. Whatever a network does outside of modules hands
relevance down by its plain derivative, which is right for a reshape and wrong for a sum: so each
call of a pass is looked at, and each node of its graph that no call accounts for, and a network
with one that no rule covers is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliency_sanity._errors import NotApplicable, known
from saliency_sanity._extras import need
from saliency_sanity.attribution.base import (
    attributing,
    check_target,
    chunk_size,
    gradient_of,
    in_chunks,
    leaf_of,
    recording,
    require_gradient,
    select,
)
from saliency_sanity.attribution.canonization import LINEAR, canonical, changes, compare
from saliency_sanity.attribution.graph import mark, marked, nodes
from saliency_sanity.attribution.per_label import explaining
from saliency_sanity.attribution.rectifiers import interception
from saliency_sanity.networks.branching import tensors
from saliency_sanity.networks.classifier import scaling_of
from saliency_sanity.networks.compat import ensure_torchvision
from saliency_sanity.networks.forward import laid_out, logits_of, name_of
from saliency_sanity.networks.framed import FramedConv2d

need("layer-wise relevance propagation", "lrp", "zennit")
ensure_torchvision()

from zennit.core import Hook  # noqa: E402
from zennit.layer import Sum  # noqa: E402
from zennit.rules import (  # noqa: E402
    AlphaBeta,
    Epsilon,
    Flat,
    Norm,
    Pass,
    WSquare,
    ZBox,
    ZPlus,
)

# From 1.0 on hooks are given keyword arguments, too, and give what a module is to give instead.
_KEYWORDS = ({},) if "kwargs" in signature(Hook.forward).parameters else ()

RULES = ("epsilon", "zplus", "alpha_beta")
INPUT_RULES = ("same", "z", "zbox", "wsquare", "flat")

_HALF = (torch.float16, torch.bfloat16)

# Added to denominators whose terms are of one sign, which are zero only where all of them are.
_TINY = 1e-9

_AVERAGES = {nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, Sum}
_PLAIN = {nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Unflatten, nn.Identity}
_PLAIN |= {nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Sequential, nn.ModuleList, nn.ModuleDict}

# Calls that move relevance as they should by their own derivative: they move values, or hand on
# the largest. A dropout that is not training does nothing.
_MOVES = {"flatten", "unflatten", "view", "view_as", "reshape", "reshape_as", "squeeze"}
_MOVES |= {"unsqueeze", "permute", "transpose", "contiguous", "clone", "to", "__getitem__"}
_MOVES |= {"cat", "concat", "stack", "chunk", "split"}
_MOVES |= {f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)}
_DROPOUTS = {"dropout", "dropout1d", "dropout2d", "dropout3d"}


def _is_ruled(module: nn.Module) -> bool:
    if "forward" in vars(module) and type(module) is not FramedConv2d:
        return False  # what it does is not what its type says
    if type(module) in LINEAR:
        # Rules change weights by name, and one that is made of others would not heed them.
        return module._parameters.keys() == {"weight", "bias"}
    return type(module) in _AVERAGES or type(module) is nn.ReLU


class _Pass(TorchFunctionMode):
    """One forward pass of ``model`` from ``leaf`` on which every layer gets its rule.

    Entered around the pass, and closed when its graph is no longer needed.
    """

    def __init__(self, lrp: "Lrp", model: nn.Module, leaf: Tensor, folded: frozenset[nn.Module]):
        super().__init__()
        self.lrp, self.model, self.leaf, self.folded = lrp, model, leaf, folded
        self.rectifiers = 0
        self._open: list[tuple[Hook, list]] = []  # of layers that are running, and nodes before
        self._hooks: list[Hook] = []
        self._linear: set[Any] = set()  # nodes of the graph that stand for linear layers

    def __enter__(self):
        self._handles, self._ruled = [], []
        for module in self.model.modules():
            if module in self.folded or _is_ruled(module):
                self._ruled.append(module)
                # Innermost of the module's hooks, so that what others do is outside the layer.
                self._handles += [
                    module.register_forward_pre_hook(self._before),
                    module.register_forward_hook(self._after, prepend=True),
                ]
        return super().__enter__()

    def __exit__(self, *exception):
        for handle in self._handles:
            handle.remove()
        # As the pass has left them: it gives a layer with a frame the bias of its pictures.
        self._parameters = [
            (module, *one)
            for module in self._ruled
            for one in module.named_parameters(recurse=False)
        ]
        return super().__exit__(*exception)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._open:
            return func(*args, **kwargs)
        before = _sources((args, kwargs))
        output = func(*args, **kwargs)
        if any(one.requires_grad for one in tensors(output)):
            name = getattr(func, "__name__", str(func))
            still = name in _DROPOUTS and kwargs.get("training") is False
            if not (still or name in _MOVES):
                raise NotApplicable(self._refusal(repr(name)))
            mark(nodes(output, before))
        return output

    def vet(self, logits: Tensor) -> None:
        """Raise NotApplicable where the graph has more than layers and calls account for."""
        idle = ("torch::autograd::AccumulateGrad", "BackwardHookFunctionBackward")
        for node in nodes(logits):
            if not marked(node) and node.name() not in idle:
                raise NotApplicable(self._refusal(f"{node.name()!r} out of sight"))

    def restore(self) -> None:
        """Put the layers' own parameters back; zennit 1.0 leaves copies of the same values."""
        for module, name, parameter in self._parameters:
            if getattr(module, name) is not parameter:
                setattr(module, name, parameter)

    def close(self) -> None:
        """Let go of what the rules remember; until then zennit's hooks live by this object."""
        for hook in self._hooks:
            hook.remove()

    def _refusal(self, call: str) -> str:
        strange = {
            type(module).__name__
            for module in self.model.modules()
            if not (_is_ruled(module) or module in self.folded or type(module) in _PLAIN)
            and (type(module).__module__.startswith("torch.nn.") or not [*module.children()])
        }
        layers = f" (layers without a rule: {', '.join(sorted(strange))})" if strange else ""
        return (
            f"LRP cannot explain {name_of(self.model)}: no rule is in force where it calls {call}"
            f"{layers}, so relevance would be handed down by the plain gradient there. "
            "Rules are for modules: Linear, Conv, ReLU, average pooling, batch norm right after a "
            "linear layer, and the sums of torchvision's ResNets; not for rectifiers, averages "
            "and sums that are called as functions. Use gradient_x_input for this network"
        )

    def _before(self, module: nn.Module, inputs: tuple) -> Tensor:
        kind = type(module)
        if not torch.is_grad_enabled():  # as checkpoints do, which compute it again
            raise NotApplicable(self._refusal(f"a {kind.__name__} without a graph"))
        if kind in LINEAR:
            hook = self.lrp._hook(self._bounds if self._sees_pixels(inputs[0]) else None, inputs[0])
        elif kind in _AVERAGES:
            hook = Norm(self.lrp.epsilon)
        else:
            hook = Pass()
            self.rectifiers += kind is nn.ReLU
        self._open.append((hook, _sources(inputs)))
        given = hook.pre_forward(module, inputs, *_KEYWORDS)
        return given[0] if _KEYWORDS and given is not None else given

    def _after(self, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        hook, before = self._open[-1]
        hook.forward(module, inputs, *_KEYWORDS, output)
        given = hook.post_forward(module, inputs, *_KEYWORDS, output)
        output = output if given is None else given
        mark(nodes(output, before))
        if type(module) in LINEAR:
            self._linear.add(output.grad_fn)
        # A hook for each call: a layer that is called twice has two inputs to remember.
        self._hooks.append(hook)
        self._open.pop()
        return output

    def _sees_pixels(self, x: Tensor) -> bool:
        """Whether ``x`` comes from the leaf with no linear layer between them."""
        if self.lrp.input_rule == "same":
            return False
        seen, todo, pixels, hidden = set(), [x.grad_fn], x is self.leaf, False
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in self._linear:
                hidden = True
            else:
                pixels |= getattr(node, "variable", None) is self.leaf
                todo += [before for before, _ in node.next_functions]
        if pixels and hidden:
            raise NotApplicable(
                f"input rule {self.lrp.input_rule!r} cannot be given to {name_of(self.model)}: one "
                "of its layers sees pixels and hidden units at once; use input_rule='same'"
            )
        return pixels

    def _bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest value that each input ``x`` of the first layer can have."""
        scaling = scaling_of(self.model)
        if scaling is None:
            raise NotApplicable(
                f"input rule 'zbox' needs the range of pixels, but {name_of(self.model)} has no "
                "scaling: wrap the network in saliency_sanity.Classifier, or use another rule"
            )
        if not torch.equal(x.flatten(1), self.leaf.flatten(1)):
            raise NotApplicable(
                f"input rule 'zbox' needs a first layer that sees the pixels as they are, but "
                f"{name_of(self.model)} changes them before; use another rule"
            )
        black = torch.zeros_like(self.leaf[:1], requires_grad=False)
        low, high = scaling.to_network(black), scaling.to_network(black + 1)
        return low.reshape(1, *x.shape[1:]), high.reshape(1, *x.shape[1:])


def _sources(values: object) -> list:
    """The nodes that a call's arguments come from."""
    return [one.grad_fn for one in tensors(values) if one.grad_fn is not None]


@dataclass(frozen=True)
class Lrp:
    """Layer-wise relevance propagation: the target's logit, handed down layer by layer.

    Map ``[N, C, H, W]`` in logit; it sums to the logit up to what biases and denominators keep.
    ``rule`` of the layers: ``epsilon`` (shares in proportion to contributions z, their sum moved
    from zero by ``epsilon``), ``zplus`` (positive contributions only) or ``alpha_beta`` (positive
    ones times ``alpha``, negative ones times ``alpha`` - 1). Sums and averages of layers share as
    ``epsilon`` does under each rule, rectifiers hand on what they get, batch norms are folded into
    the layer before. ``input_rule`` of layers that see the pixels: ``same``; ``z``, which is
    ``epsilon``'s; ``zbox``, which takes the pixels' range from the model's scaling; ``wsquare``
    and ``flat``, which share without regard to the pixels. ``zbox``, ``wsquare`` and ``flat`` leave
    nothing to biases.

    Raises NotApplicable for a network with anything that no rule covers, with its name, without
    rectifiers or in half precision; ValueError for an unknown rule, ``epsilon`` not above 0 or
    ``alpha`` below 1.
    [bach2015pixel]; input rules of [montavon2017explaining]; code of [anders2021zennit]
    """

    rule: str = "epsilon"
    input_rule: str = "same"
    epsilon: float = 1e-6
    alpha: float = 2.0

    def __post_init__(self):
        known("LRP rule", self.rule, RULES)
        known("LRP input rule", self.input_rule, INPUT_RULES)
        if not self.epsilon > 0:
            raise ValueError(f"epsilon {self.epsilon} must be above 0, for example 1e-6")
        if not 1 <= self.alpha < float("inf"):
            raise ValueError(f"alpha {self.alpha} must be at least 1: beta is alpha - 1")

    def _hook(self, bounds: Callable | None, x: Tensor) -> Hook:
        """A rule for a layer with input ``x``; ``bounds`` gives those of pixels, None if hidden."""
        rule = self.rule if bounds is None or self.input_rule == "same" else self.input_rule
        if rule == "zbox":
            return ZBox(*bounds(x), stabilizer=_TINY)
        return {
            "epsilon": lambda: Epsilon(self.epsilon),
            "z": lambda: Epsilon(self.epsilon),
            "zplus": lambda: ZPlus(_TINY),
            "alpha_beta": lambda: AlphaBeta(self.alpha, self.alpha - 1, _TINY),
            "wsquare": lambda: WSquare(_TINY, zero_params=["bias"]),
            "flat": lambda: Flat(_TINY),
        }[rule]()

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def explain(part: Tensor, wanted: Tensor) -> Tensor:
            with self.explaining(model, part) as maps:
                return maps(wanted)

        with attributing(model, x, target):
            return in_chunks(x, target, explain)

    @contextmanager
    def explaining(self, model: nn.Module, x: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
        """Give ``maps(labels)``: a map ``[N, C, H, W]`` for one label an image, ``[N]`` int64.

        Where ``x`` goes through the network at once, one forward pass serves any number of calls,
        each a backward pass. Within the block the model is in its canonical form: use it for
        nothing that asks for its tensors.
        """
        if (other := interception()) is not None:
            raise NotApplicable(f"LRP has its own rule for rectifiers and cannot take {other.rule}")
        if x.dtype in _HALF or torch.is_autocast_enabled(x.device.type):
            raise NotApplicable(
                "LRP divides by sums that half precision cannot tell from zero; give model and "
                "pictures in single precision, with .float(), and outside of torch.autocast"
            )
        anything = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        with attributing(model, x, anything), ExitStack() as stack:
            if len(x) > chunk_size(x):
                yield lambda labels: self(model, x, labels)
                return
            require_gradient(model, x)
            with torch.no_grad():
                before = logits_of(model, laid_out(model, x[:1])) if changes(model) else None
            folded = stack.enter_context(canonical(model))
            with recording():
                leaf = leaf_of(model, x)
                run = stack.enter_context(closing(_Pass(self, model, leaf, folded)))
                with run:
                    logits = logits_of(model, leaf)
                select(logits, anything)
                run.vet(logits)
            if before is not None:
                compare(model, before, logits[:1].detach())
            if not run.rectifiers:
                raise NotApplicable(
                    f"LRP needs rectifiers, but {name_of(model)} calls no ReLU module; use "
                    "gradient_x_input for this network"
                )

            def maps(labels: Tensor) -> Tensor:
                check_target(x, labels)
                try:
                    with recording():
                        score = select(logits, labels)
                        return gradient_of(model, score, leaf, score.detach(), retain_graph=True)
                finally:
                    run.restore()

            yield maps


explaining.register(Lrp, Lrp.explaining)
