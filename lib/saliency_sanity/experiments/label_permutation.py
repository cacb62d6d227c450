"""Maps of networks trained on true and on permuted labels: how far they agree, beside what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from saliency_sanity._arithmetic import arithmetic, check_precision
from saliency_sanity._errors import NotApplicable, unknown
from saliency_sanity._groups import GROUP
from saliency_sanity._hashing import named
from saliency_sanity.attribution.base import Attribution, logits, mapped
from saliency_sanity.experiments.comparison import check_map, refuse_all
from saliency_sanity.experiments.keys import subject
from saliency_sanity.experiments.outcome import displayed
from saliency_sanity.experiments.store import Store
from saliency_sanity.randomization.schemes import EXPLAINED
from saliency_sanity.similarity.metrics import Similarity, similarity_rows
from saliency_sanity.verdict.obstacle import CeilingKind
from saliency_sanity.verdict.reading import Reading, by_image, read
from saliency_sanity.verdict.wording import covers_networks

# Whose maps are compared: the question, and two answers to what it has to be read against.
ACROSS, TRUE, PERMUTED = "true-permuted", "true-true", "permuted-permuted"
# The control whose maps know of a network no more than that its weights are others.
CONTROL = "input_x_noise"

Matrices = dict[tuple[str, str, str], np.ndarray]

# The fields of a reading that say something of its prior, by what they are called without it.
_REFERENCE = {
    name.removeprefix("prior_"): name
    for name in Reading.__annotations__
    if name.startswith(("prior_", "excess")) and name != "prior_seeds"
}


@dataclass(frozen=True)
class Agreement:
    """A comparison of networks trained on true with networks trained on permuted labels.

    Calling it runs it. ``true`` and ``permuted`` are as many networks, compared pair by pair; each
    kind also with itself, a network with the next. ``x`` ``[N, C, H, W]`` in the networks' scaling.
    ``explained`` is the class whose map is made: each network's own ``argmax``, the ``fixed`` one
    that the first true-label network finds, or the ``label`` ``labels`` ``[N]``. ``shown`` pictures
    have their maps kept to be looked at. ``store`` makes the run resumable, map by map. ``group``
    pictures are compared with each other, 0 all. ``precision`` is the ``arithmetic`` in which
    networks are run: ``exact``, ``tf32`` or ``bfloat16``.

    Raises ValueError for values that do not fit, and what methods and metrics raise.
    Source: adebayo2018sanity, section 4.
    """

    true: Sequence[nn.Module]
    permuted: Sequence[nn.Module]
    x: Tensor
    methods: Mapping[str, Attribution]
    metrics: Mapping[str, Similarity]
    explained: str = "argmax"
    labels: Tensor | None = None
    shown: int = 0
    store: Store | None = field(default=None, repr=False)
    group: int = GROUP
    precision: str = "exact"

    def __post_init__(self):
        check_precision(self.precision, self.x)
        if not self.true or len(self.true) != len(self.permuted):
            raise ValueError(
                f"{len(self.true)} networks with true labels, {len(self.permuted)} with permuted "
                "ones; give as many of each, one or more"
            )
        if self.explained not in EXPLAINED:
            raise ValueError(unknown("explained class", self.explained, EXPLAINED))
        if self.explained == "label" and (self.labels is None or len(self.labels) != len(self.x)):
            raise ValueError(f"explained class 'label' needs labels for all {len(self.x)} images")
        if not 0 <= self.shown <= len(self.x):
            raise ValueError(f"{self.shown} images shown; valid are 0 to {len(self.x)}")
        if not self.methods or not self.metrics:
            raise ValueError("a comparison needs at least one method and one metric")

    def __call__(self) -> "Agreed":
        """Explain and compare, showing progress; maps that are in the store are taken from it."""
        with arithmetic(self.precision, self.x.device):
            return self._agreed()

    def _agreed(self) -> "Agreed":
        networks = [*self.true, *self.permuted]
        classes = self._classes(networks)
        keys = [self._key(model, target) for model, target in zip(networks, classes, strict=True)]
        matrices: Matrices = {}
        pictures: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        refused: dict[str, str] = {}
        with tqdm(total=len(networks) * len(self.methods), unit="map", mininterval=1) as bar:
            for name in self.methods:
                bar.set_description(name)
                maps: list[Tensor] = []
                try:
                    for model, target, key in zip(networks, classes, keys, strict=True):
                        maps.append(self._map(name, model, target, key))
                        bar.update()
                except NotApplicable as error:
                    refused[name] = str(error)
                    bar.update(len(networks) - len(maps))
                    continue
                matrices |= self._compared(name, maps)
                if self.shown:
                    pictures[name] = self._pictures(maps)
        if not matrices:
            refuse_all(refused)
        largest = torch.stack(classes).cpu().numpy()
        return Agreed(matrices, largest, pictures, refused)

    def _classes(self, networks: Sequence[nn.Module]) -> list[Tensor]:
        if self.explained == "label":
            return [self.labels.to(self.x.device)] * len(networks)
        asked = networks if self.explained == "argmax" else networks[:1]
        found = [_largest(model, self.x) for model in asked]
        return found if self.explained == "argmax" else found * len(networks)

    def _key(self, model: nn.Module, target: Tensor) -> dict:
        if self.store is None:
            return {}
        return subject(model, self.x) | {"what": "map", "classes": target.tolist()}

    def _map(self, name: str, model: nn.Module, target: Tensor, key: Mapping) -> Tensor:
        method = self.methods[name]

        def explain() -> dict[str, np.ndarray]:
            found = check_map(name, mapped(method, model, self.x, target), self.x)
            return {"map": found.cpu().numpy()}

        kept = self.store.compute({**key, "method": named(method)}, explain) if key else explain()
        return torch.from_numpy(kept["map"]).to(self.x.device)

    def _compared(
        self, name: str, maps: Sequence[Tensor]
    ) -> dict[tuple[str, str, str], np.ndarray]:
        half = len(self.true)
        pairs = {
            ACROSS: list(zip(maps[:half], maps[half:], strict=True)),
            TRUE: list(pairwise(maps[:half])),
            PERMUTED: list(pairwise(maps[half:])),
        }
        images = len(self.x)
        partners = min(images, self.group or images)
        with arithmetic("exact", self.x.device):
            return {
                (name, key, kind): np.array(
                    [similarity_rows(metric, a, b, self.group) for a, b in chosen]
                ).reshape(-1, images, partners)
                for key, metric in self.metrics.items()
                for kind, chosen in pairs.items()
            }

    def _pictures(self, maps: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
        shown = [displayed(found[: self.shown]) for found in maps]
        absolute, signed = (
            np.array([one[kind].numpy() for one in shown]) for kind in ("absolute", "signed")
        )
        return absolute, signed


def _largest(model: nn.Module, x: Tensor) -> Tensor:
    """The class ``[N]`` of the largest logit."""
    return logits(model, x).argmax(1)


@dataclass(frozen=True)
class Agreed:
    """What a comparison of networks measured.

    ``matrices[method, metric, kind]`` ``[Q, N, P]``: similarity of the map of image i under the
    first and of image j of its group under the second network of a pair; ``kind`` is
    ``true-permuted`` (M pairs), ``true-true`` or ``permuted-permuted`` (M - 1 each). ``classes``
    ``[2M, N]``: what was explained, true-label networks first. ``pictures[method]``: absolute
    ``[2M, shown, h, w]`` in [0, 1] and signed in [-1, 1]. ``refused``: methods that do not apply,
    with the reason.
    """

    matrices: Mapping[tuple[str, str, str], np.ndarray]
    classes: np.ndarray
    pictures: Mapping[str, tuple[np.ndarray, np.ndarray]]
    refused: Mapping[str, str]

    def readings(self, *, margin: float = 0.1, confidence: float = 0.95) -> pd.DataFrame:
        """True against permuted labels, beside three references; a row a method and metric.

        The fields of ``verdict.Reading``, whose prior is left empty and whose ceiling is two
        networks with true labels, ``words``, and for each
        reference, named ``true`` (two networks with true labels: the ceiling), ``permuted`` (two
        with permuted ones) and ``noise`` (the control ``input_x_noise`` across the same pairs),
        ``REF_similarity``, ``REF_kappa`` and so on, and ``REF_excess``: kappa less the
        reference's, of the same images. NaN for a reference that there is not, and for limits of
        the excess over others where there are fewer than three networks of a kind.
        """
        rows = []
        for method, metric in dict.fromkeys(key[:2] for key in self.matrices):
            across = self.matrices[method, metric, ACROSS]
            seeds = self.matrices[method, metric, TRUE]
            held = {"margin": margin, "confidence": confidence}
            ceiling = {CeilingKind.SEEDS: seeds} if len(seeds) else None
            own = read(across, ceiling=ceiling, **held)
            row = {"method": method, "metric": metric} | own.row() | {"words": own.words()}
            references = {
                "true": seeds,
                "permuted": self.matrices[method, metric, PERMUTED],
                "noise": self.matrices.get((CONTROL, metric, ACROSS), ()),
            }
            for reference, prior in references.items():
                # The control is read across the networks themselves, not across others.
                same = reference == "noise"
                found = read(across, prior, paired=same, **held) if len(prior) else own
                beside = found.row()
                if not same and not covers_networks(beside):
                    beside |= {"excess_low": np.nan, "excess_high": np.nan}
                row |= {f"{reference}_{short}": beside[it] for short, it in _REFERENCE.items()}
            rows.append(row)
        return pd.DataFrame(rows)

    def measurements(self) -> pd.DataFrame:
        """Similarity and chance level, a row for each method, metric, kind, pair and image."""
        return pd.concat(
            [
                by_image(matrices).assign(method=method, metric=metric, pair_of=kind)
                for (method, metric, kind), matrices in self.matrices.items()
                if len(matrices)
            ],
            ignore_index=True,
        )
