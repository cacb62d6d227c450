"""Layer-wise relevance propagation, by intercepting the calls of a network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable, known
from saliency_sanity.attribution.affine import Rule
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
from saliency_sanity.attribution.ledger import Ledger
from saliency_sanity.attribution.per_label import explaining
from saliency_sanity.attribution.rectifiers import interception
from saliency_sanity.attribution.relevance import Passing
from saliency_sanity.networks.classifier import scaling_of
from saliency_sanity.networks.forward import logits_of, name_of

RULES = ("epsilon", "zplus", "alpha_beta", "gamma")
INPUT_RULES = ("same", "z", "zbox", "wsquare", "flat")

# Composites of the literature, by the names of [anders2021zennit].
COMPOSITES = {
    "epsilon": {},
    "epsilon_plus": {"rule": "zplus", "dense": "epsilon"},
    "epsilon_plus_flat": {"rule": "zplus", "dense": "epsilon", "input_rule": "flat"},
    "epsilon_alpha2_beta1": {"rule": "alpha_beta", "dense": "epsilon"},
    "epsilon_alpha2_beta1_flat": {"rule": "alpha_beta", "dense": "epsilon", "input_rule": "flat"},
    "epsilon_gamma_box": {"rule": "gamma", "dense": "epsilon", "input_rule": "zbox"},
}

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Lrp:
    """Layer-wise relevance propagation: the target's logit, handed down layer by layer.

    Map ``[N, C, H, W]`` in logit; it sums to the logit up to what biases and denominators keep.
    ``rule`` of the layers: ``epsilon`` (shares in proportion to contributions z, their sum moved
    from zero by ``epsilon``), ``zplus`` (positive contributions only), ``alpha_beta`` (positive
    ones times ``alpha``, negative ones times ``alpha`` - 1) or ``gamma`` (those of the sum's sign
    ``gamma`` times more). Dense layers have the rule ``dense``. ``input_rule`` of layers that see
    the pixels: ``same``; ``z``, which is ``epsilon``'s; ``zbox``, which takes the pixels' range
    from the model's scaling; ``wsquare`` and ``flat``, which share without regard to the pixels.
    ``zbox``, ``wsquare`` and ``flat`` leave nothing to biases.

    Under each rule sums and averages share as ``epsilon`` does, and so do batch norms by
    themselves; one right after or before a layer is a part of it. Rectifiers hand on what they get,
    a saturated ReLU6 too, and so do other functions of one unit (GELU, say). A maximum gives all to
    the largest. In a product with a gate, which is what a sigmoid gives, all goes to the other
    factor; other products share equally. The spread of a layer norm counts as a constant, and
    softmax hands down by its derivative, as in AttnLRP.

    Raises NotApplicable for a network with anything that no rule covers, with its name and place,
    or in half precision; ValueError for an unknown rule, ``epsilon`` not above 0, ``alpha`` below
    1 or a negative ``gamma``. [bach2015pixel]; input rules of [montavon2017explaining];
    conventions of [anders2021zennit]; attention of [achtibat2024attnlrp]
    """

    rule: str = "epsilon"
    input_rule: str = "same"
    epsilon: float = 1e-6
    alpha: float = 2.0
    gamma: float = 0.25
    dense: str = "same"

    def __post_init__(self):
        known("LRP rule", self.rule, RULES)
        known("LRP input rule", self.input_rule, INPUT_RULES)
        known("LRP rule of dense layers", self.dense, ("same", *RULES))
        if not 0 < self.epsilon < float("inf"):
            raise ValueError(f"epsilon {self.epsilon} must be above 0, for example 1e-6")
        if not 1 <= self.alpha < float("inf"):
            raise ValueError(f"alpha {self.alpha} must be at least 1: beta is alpha - 1")
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"gamma {self.gamma} must be at least 0, for example 0.25")

    def rules(self) -> tuple[Rule, Rule, Rule | None]:
        """Of convolutions, of dense layers, and of layers that see pixels."""
        dense = self.rule if self.dense == "same" else self.dense
        pixels = "epsilon" if self.input_rule == "z" else self.input_rule
        names = self.rule, dense, None if self.input_rule == "same" else pixels
        numbers = self.epsilon, self.alpha, self.gamma
        return tuple(name and Rule(name, *numbers) for name in names)

    def bounds(self, model: nn.Module, leaf: Tensor) -> tuple[Tensor, ...]:
        """Lowest and highest value that each pixel can have, where a rule asks for them."""
        if self.input_rule != "zbox":
            return ()
        scaling = scaling_of(model)
        if scaling is None:
            raise NotApplicable(
                f"input rule 'zbox' needs the range of pixels, but {name_of(model)} has no "
                "scaling: wrap the network in saliency_sanity.Classifier, or use another rule"
            )
        black = torch.zeros_like(leaf, requires_grad=False)
        return scaling.to_network(black), scaling.to_network(black + 1)

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def explain(part: Tensor, wanted: Tensor) -> Tensor:
            with self._passing(model, part, keep=False) as maps:
                return maps(wanted)

        with attributing(model, x, target):
            return in_chunks(x, target, explain)

    @contextmanager
    def explaining(self, model: nn.Module, x: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
        """Give ``maps(labels)``: a map ``[N, C, H, W]`` for one label an image, ``[N]`` int64.

        Where ``x`` goes through the network at once, one forward pass serves any number of calls,
        each a backward pass, and so does what rules compute that does not hang on the label.
        """
        anything = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        with attributing(model, x, anything):
            if len(x) > chunk_size(x):
                yield lambda labels: self(model, x, labels)
                return
            with self._passing(model, x, keep=True) as maps:
                yield maps

    def absorbed(self, model: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        """What never reaches the pixels: relevance ``[N]`` by the layer and function that keep it.

        That is what biases, denominators, constants and softmax take; with the sum of the map it is
        the logit. Each picture goes through the network by itself.
        """
        found: dict[str, list[Tensor]] = {}
        with attributing(model, x, target):
            for one, wanted in zip(x.split(1), target.split(1), strict=True):
                ledger = Ledger()
                with self._passing(model, one, keep=False, ledger=ledger) as maps:
                    maps(wanted)
                for name, value in ledger.kept.items():
                    found.setdefault(name, []).append(value)
        return {name: torch.stack(values) for name, values in found.items()}

    @contextmanager
    def _passing(
        self, model: nn.Module, x: Tensor, keep: bool, ledger: Ledger | None = None
    ) -> Iterator[Callable[[Tensor], Tensor]]:
        if (other := interception()) is not None:
            raise NotApplicable(f"LRP has its own rule for rectifiers and cannot take {other.rule}")
        if x.dtype in _HALF or torch.is_autocast_enabled(x.device.type):
            raise NotApplicable(
                "LRP divides by sums that half precision cannot tell from zero; give model and "
                "pictures in single precision, with .float(), and outside of torch.autocast"
            )
        require_gradient(model, x)
        rules = self.rules()
        with recording():
            leaf = leaf_of(model, x)
            passing = Passing(model, leaf, rules, self.bounds(model, leaf), keep, ledger)
            with passing:
                logits = logits_of(model, leaf)
                passing.vet(logits)

        def maps(labels: Tensor) -> Tensor:
            check_target(x, labels)
            with recording():
                score = select(logits, labels)
                found = gradient_of(model, score, leaf, retain_graph=keep)
            if ledger is not None:
                ledger.close(logits, score.detach().sum())
            by_size = rules[2] is not None and rules[2].by_size
            return found if by_size else found * leaf.detach()

        yield maps


def composite(name: str, epsilon: float = 1e-6, gamma: float = 0.25) -> Lrp:
    """The rules of a composite of the literature; raises ValueError for an unknown one."""
    return Lrp(**COMPOSITES[known("composite", name, COMPOSITES)], epsilon=epsilon, gamma=gamma)


explaining.register(Lrp, Lrp.explaining)
