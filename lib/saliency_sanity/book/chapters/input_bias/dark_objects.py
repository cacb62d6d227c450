"""Dark objects on lighter ground: how much of a map lies on them, by which colour is zero."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from torch import Tensor

from saliency_sanity import resolve
from saliency_sanity.book.chapters.claims import DECIDED, Claim
from saliency_sanity.book.chapters.input_bias.claims import MODIFIED, RECT, dark_claims, remember
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.book.chapters.page import bullets, titled
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.plots.input_bias import percentile_chart, share_chart
from saliency_sanity.plots.maps import map_grid
from saliency_sanity.plots.mosaic import mosaic, tinted
from saliency_sanity.probes.regions import (
    dark_object,
    density,
    depth,
    known_mask,
    on_bright_ground,
    outlined,
    read_masks,
)
from saliency_sanity.probes.units import region_table, rescaled
from saliency_sanity.similarity.prepare import absolute_picture
from saliency_sanity.subjects.outlines import outlines

_COMPARED = (
    *(RECT, MODIFIED, "gradient_x_input", "integrated_gradients"),
    *("lrp_epsilon", "gradient", "guided_backprop"),
)
_PICTURED = (
    ("RectGrad,\ninput in [0,\u00a01]", "black", RECT),
    ("RectGrad,\ninput in [−1,\u00a01]", "mid-grey", RECT),
    ("RectGrad,\nwithout ⊙\u00a0input", "black", MODIFIED),
    ("gradient ⊙\u00a0input,\ninput in [0,\u00a01]", "black", "gradient_x_input"),
    ("gradient ⊙\u00a0input,\ninput in [−1,\u00a01]", "mid-grey", "gradient_x_input"),
    ("gradient", "black", "gradient"),
)

_CARD_ROWS = 2

_GARMENT = (
    "The ground of a garment's picture is exactly black, so it is known where the object lies. "
    "Shown here are negatives, a dark garment on white."
)
_KNOWN = f"{_GARMENT} The network is one that learned garments and their negatives."
_UNKNOWN = (
    f"{_GARMENT} The network never learned negatives (`negative_weights` names one that did)."
)
_MASKED = (
    "Where objects lie is said by your masks (`masks`). One counts if it is dark on the whole and "
    "its ground is light."
)
_DRAWN = (
    "The outlines of the labelled objects were drawn by hand (`subjects/outlines.toml`), before "
    "any map was made. A pixel belongs to the dark object if it lies within and its luminance is "
    "low. The picture counts if what lies outside is lighter on average."
)
_NONE = (
    "What counts as dark and as light are parameters (`darkest`, `brightest`). Your own pictures "
    "need masks of their own (`masks`)."
)

_OF_GARMENTS = (
    "The dark garments are garments in negative, and so are those that the network was trained on, "
    "beside the garments themselves. Nobody photographed them dark.",
    "Garments are the darkest of those that were searched, not a fair sample of all.",
    "White is the ground's own colour. Where it is zero, a product has everything inside by "
    "construction.",
)
_OF_PICTURES = (
    "Dark is a matter of luminance: a dark red object is dark in two channels and bright in the "
    "third, and there a product sees it with black as zero.",
)
_OF_OUTLINES = (
    "Dark objects on dark ground are left out; the bald eagle among the built-in photographs is "
    "one. A lower `brightest` lets it in. A much higher one leaves fewer than twelve pictures.",
    "Outlines by hand are polygons, and a matter of judgement. They say where the object is, not "
    "whether the network looks at it. A map that is right to ignore the dark part looks blind "
    "here. So compare it with the map without the product.",
)


@dataclass(frozen=True)
class Objects:
    """Where objects lie in all pictures that are searched, and which of them count.

    ``subject`` is the network that sees ``scenes`` ``[P, C, H, W]`` and takes them for ``classes``
    ``[P]``; ``masks`` ``[P, H, W]`` are the objects, ``dark`` ``[P]`` whether one counts. No map
    has a say in that.
    """

    subject: Classifier
    scenes: Tensor
    classes: Tensor
    masks: Tensor
    dark: Tensor


def known(page: InputBias) -> Objects:
    """Garments in negative, whose ground is exactly white; those count that the network knows."""
    subject, scenes = page.both_ways, 1 - page.pixels
    classes = subject.predict(subject.scaling.to_network(scenes))
    dark = classes == torch.tensor(page.photographs.labels, device=classes.device)
    return Objects(subject, scenes, classes, known_mask(page.pixels), dark)


def masked(page: InputBias) -> Objects:
    """Objects by somebody's own masks, dark on the whole; raises as ``regions.read_masks``."""
    pixels = page.pixels
    masks = read_masks(Path(page.masks), Path(page.images), page.classifier.size)
    masks = masks[: len(pixels)].to(pixels.device)
    dark = on_bright_ground(pixels, masks, brightest=page.brightest, least=0, most=1)
    dark &= depth(pixels, masks) < page.darkest
    return Objects(page.classifier, pixels, page.classes, masks, dark)


def drawn(page: InputBias) -> Objects:
    """Objects by outlines that were drawn by hand: what is dark within them."""
    pixels = page.pixels
    around = outlines(page.photographs).to(pixels.device)
    masks = dark_object(pixels, around, darkest=page.darkest)
    dark = on_bright_ground(pixels, masks, brightest=page.brightest)
    return Objects(page.classifier, pixels, page.classes, masks, dark)


@dataclass
class DarkObjects:
    """The section on dark objects.

    ``scenes`` ``[N, C, H, W]`` are pictures with a dark object, the darkest first, ``masks``
    ``[N, H, W]`` the objects and ``labels`` ``[N]`` the classes; ``fed`` is the network in units of
    each zero, ``inputs`` the scenes in those. N may be 0: then nothing is measured and every claim
    is "not tested".
    """

    page: InputBias
    scenes: Tensor
    masks: Tensor
    labels: Tensor
    names: list[str]
    fed: Mapping[str, Classifier]
    inputs: Mapping[str, Tensor]
    count: int

    @classmethod
    def of(cls, page: InputBias) -> Self:
        """Find the dark objects: known, by masks of one's own, or by outlines."""
        found = (known if page.garments else masked if page.masks else drawn)(page)
        count = int(found.dark.sum())
        lightness = depth(found.scenes, found.masks).masked_fill(~found.dark, torch.inf)
        chosen = lightness.argsort()[:count][: page.dark_count or None]
        scenes = found.scenes[chosen]
        fed = {zero: rescaled(found.subject, scaling) for zero, scaling in page.zeros.items()}
        return cls(
            page=page,
            scenes=scenes,
            masks=found.masks[chosen],
            labels=found.classes[chosen],
            names=[page.photographs.names[i] for i in chosen.tolist()],
            fed=fed,
            inputs={zero: fed[zero].scaling.to_network(scenes) for zero in fed},
            count=count,
        )

    def __len__(self) -> int:
        return len(self.scenes)

    def found(self) -> Markdown:
        """How objects were found, how many are dark, and what to do where none is."""
        page, searched = self.page, len(self.page.pixels)
        if page.garments:
            how = _KNOWN if page.both_ways is not page.classifier else _UNKNOWN
            count = f"Of {searched} negatives it recognises {self.count}"
        else:
            how = _MASKED if page.masks else _DRAWN
            count = f"{self.count} of {searched} pictures have a dark object on lighter ground"
        if len(self) < self.count:
            count += f"; the {len(self)} darkest are used"
        lines = [how, f"{count}."]
        if len(page.x) < searched:
            lines.append(f"What is asked below without objects is asked of {len(page.x)} pictures.")
        if not self.count and not page.garments:
            lines.append(_NONE)
        return Markdown(" ".join(lines))

    def limits(self) -> Markdown | None:
        """What is open where objects were found in this way, a list."""
        lines = _OF_GARMENTS if self.page.garments else _OF_PICTURES
        if not (self.page.garments or self.page.masks):
            lines += _OF_OUTLINES
        return bullets(lines)

    def maps(self) -> Figure | None:
        """Some of the pictures, objects outlined, and maps with and without the product."""
        if not len(self):
            return None
        page, few = self.page, slice(self.page.shown)
        columns = {
            text: page.methods[key](self.fed[zero], self.inputs[zero][few], self.labels[few]).cpu()
            for text, zero, key in _PICTURED
        }
        captions = [
            f"{name}\n{page.classifier.class_name(int(label))}"
            for name, label in zip(self.names, self.labels, strict=True)
        ]
        pictures = outlined(self.scenes, self.masks)[few]
        return map_grid(pictures, captions[few], columns, title=self._finding())

    def _finding(self) -> str:
        """What RectGrad gives dark objects, by what is zero."""
        zeros = ("black", "mid-grey")
        ranges = self._ranges(*((RECT, zero) for zero in zeros))
        shares = [
            f"{one} times as much where {zero} is zero"
            for one, zero in zip(ranges, zeros, strict=True)
        ]
        return (
            "RectGrad gives a pixel of a dark object, next to an average one, "
            f"{', '.join(shares)} (by percentile q)"
        )

    @cached_property
    def explained(self) -> dict[tuple[str, str], Tensor]:
        """Maps by method and by which colour is zero."""
        page = self.page
        compared = {key: page.methods[key] for key in _COMPARED if key != RECT}
        found = {}
        for zero in self.fed if len(self) else ():
            maps = explain(
                compared, self.fed[zero], self.inputs[zero], self.labels, page.precision
            ).maps
            # The slowest of all, and but for its last step the same.
            maps[RECT] = maps[MODIFIED] * self.inputs[zero]
            found |= {(key, zero): maps[key] for key in _COMPARED if key in maps}
        return found

    @cached_property
    def shares(self) -> pd.DataFrame:
        """Attribution inside the objects, as ``region_table`` gives it."""
        return region_table(self.explained, self.masks)

    @cached_property
    def by_q(self) -> dict[float, dict[tuple[str, str], Tensor]]:
        """RectGrad's maps with the product, by colour that is zero, and without, by percentile."""
        found = {}
        for q in self.page.quantiles if len(self) else ():
            without = resolve(MODIFIED, q=q)(self.fed["black"], self.inputs["black"], self.labels)
            found[q] = {(RECT, zero): without * self.inputs[zero] for zero in self.fed}
            # The same whatever is zero, as the section on colours shows.
            found[q][MODIFIED, "black"] = without
        return found

    @cached_property
    def curve(self) -> pd.DataFrame:
        """The density in the objects by percentile, as ``region_table`` has it, with a column q."""
        tables = [region_table(maps, self.masks).assign(q=q) for q, maps in self.by_q.items()]
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def claims(self) -> list[Claim]:
        """What [brocki2020input] says of dark regions, added to the page's claims."""
        found = {
            q: {key: density(found, self.masks).cpu().numpy() for key, found in maps.items()}
            for q, maps in self.by_q.items()
        }
        return self.page.claims.try_claims(
            lambda claims, _, level: dark_claims(claims, found, confidence=1 - level),
            self.page.margin,
        )

    def _ends(self) -> dict[tuple[str, str], tuple[float, float]]:
        """The lowest and the highest mean density over the percentiles, by method and zero."""
        grouped = self.curve.groupby(["method", "zero"])["density"]
        return {key: (values.min(), values.max()) for key, values in grouped}

    def _ranges(self, *keys: tuple[str, str]) -> list[str]:
        ends = self._ends()
        return ["{:.2f} to {:.2f}".format(*ends[key]) for key in keys]

    def density_panel(self) -> Markdown | None:
        """What to remember of densities; None without dark objects."""
        _, less, _ = self.claims
        if not len(self):
            return None
        black, grey, without = self._ranges(
            (RECT, "black"), (RECT, "mid-grey"), (MODIFIED, "black")
        )
        qs = self.page.quantiles
        return remember(
            less,
            f"Multiplied by the input, RectGrad gives a dark object {black} times the attention of "
            f"an average pixel while black is zero, and {grey} times with mid-grey as zero; "
            f"without the product {without} times (mean of {len(self)} pictures, q from "
            f"{min(qs):g} to {max(qs):g}).",
        )

    def inside(self) -> Figure | None:
        """The share of each map inside the objects."""
        if not len(self):
            return None
        rows = titled(self.shares, self.page.titles)
        # Pictures differ in their areas far more than in what maps make of them.
        less = rows[rows["density_high"] < 1].drop_duplicates("method")
        names = f": {', '.join(less['method'])}" * (not less.empty)
        return share_chart(
            rows,
            title=f"By the choice of zero alone, {len(less)} of {rows['method'].nunique()} methods "
            f"surely give dark objects less than their share of the area{names}",
        )

    def quantiles(self) -> Figure | None:
        """RectGrad's density in the objects by its percentile q."""
        if not len(self):
            return None
        lines = {(RECT, zero): f"RectGrad, zero is {zero}" for zero in self.fed}
        lines[MODIFIED, "black"] = "RectGrad without ⊙ input"
        keys = zip(self.curve["method"], self.curve["zero"], strict=True)
        return percentile_chart(
            self.curve.assign(
                method=[lines[key] for key in keys],
                value=self.curve["density"],
                low=self.curve["density_low"],
                high=self.curve["density_high"],
            ),
            title=self._finding(),
        )

    def write(self) -> None:
        """Write shares, densities by percentile and a small picture, if there are dark objects."""
        if len(self):
            self._keep_card()
            self.page.write(self.shares, "inside")
            self.page.write(self.curve, "percentiles")

    def _keep_card(self) -> None:
        """Keep a small picture: dark objects, and RectGrad's maps as black or mid-grey is zero."""
        scenes = outlined(self.scenes, self.masks)[:_CARD_ROWS].permute(0, 2, 3, 1)
        shown = [
            absolute_picture(self.explained[RECT, zero][:_CARD_ROWS].cpu()).numpy()
            for zero in ("black", "mid-grey")
        ]
        mosaic(
            [
                [scene.squeeze(-1).cpu().numpy(), *map(tinted, maps)]
                for scene, *maps in zip(scenes, *shown, strict=True)
            ],
            self.page.card,
        )

    def numbers(self) -> dict[str, float]:
        """How many dark objects there are, how many claims on them are decided, and densities.

        RectGrad's least and greatest mean density over its percentiles.
        """
        found = {
            f"density_{key}_{zero.replace('-', '_')}_{end}": round(float(value), 2) + 0.0
            for (key, zero), ends in (self._ends() if len(self) else {}).items()
            for end, value in zip(("least", "most"), ends, strict=True)
        }
        decided = sum(claim.verdict in DECIDED for claim in self.claims)
        counts = {"dark_pictures": len(self), "dark_claims": len(self.claims)}
        return counts | {"dark_decided": decided} | found
