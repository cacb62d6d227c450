"""Dark objects on bright ground: how much of a map lies on them, by which colour is zero."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from torch import Tensor

from saliency_sanity import resolve
from saliency_sanity.book.chapters.claims import Claim
from saliency_sanity.book.chapters.input_bias.claims import MODIFIED, RECT, dark_claims, remember
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.plots.input_bias import percentile_chart, share_chart
from saliency_sanity.plots.maps import map_grid
from saliency_sanity.probes.regions import (
    dark_object,
    density,
    depth,
    known_mask,
    on_bright_ground,
    outlined,
    read_masks,
)
from saliency_sanity.probes.units import inverted, region_table, rescaled

_COMPARED = (
    *(RECT, MODIFIED, "gradient_x_input", "integrated_gradients"),
    *("lrp_epsilon", "gradient", "guided_backprop"),
)
_PICTURED = (
    ("RectGrad,\ninput in [0, 1]", "black", RECT),
    ("RectGrad,\ninput in [−1, 1]", "mid-grey", RECT),
    ("RectGrad,\nwithout ⊙ input", "black", MODIFIED),
    ("gradient ⊙ input,\ninput in [0, 1]", "black", "gradient_x_input"),
    ("gradient ⊙ input,\ninput in [−1, 1]", "mid-grey", "gradient_x_input"),
    ("gradient", "black", "gradient"),
)


@dataclass(frozen=True)
class Objects:
    """Where objects lie in all pictures that are searched, and which of them count.

    ``subject`` is the network that sees ``scenes`` ``[P, C, H, W]``; ``masks`` ``[P, H, W]`` are
    the objects, ``dark`` ``[P]`` whether one is dark on bright ground.
    """

    subject: Classifier
    scenes: Tensor
    masks: Tensor
    dark: Tensor


def known(page: InputBias) -> Objects:
    """Garments in negative, whose ground is exactly white, and the network that knows them so."""
    pixels = page.pixels
    dark = torch.ones(len(pixels), dtype=torch.bool, device=pixels.device)
    return Objects(inverted(page.classifier), 1 - pixels, known_mask(pixels), dark)


def masked(page: InputBias) -> Objects:
    """Objects by somebody's own masks; raises as ``regions.read_masks``."""
    pixels = page.pixels
    masks = read_masks(Path(page.masks), Path(page.images), page.classifier.size)
    masks = masks[: len(pixels)].to(pixels.device)
    dark = on_bright_ground(pixels, masks, brightest=page.brightest, least=0, most=1)
    dark &= depth(pixels, masks) < page.darkest
    return Objects(page.classifier, pixels, masks, dark)


def ruled(page: InputBias) -> Objects:
    """Objects by the rule: dark, and where Grad-CAM has at least a share of its maximum."""
    pixels, classifier = page.pixels, page.classifier
    seen = resolve("grad_cam")(classifier, classifier.scaling.to_network(pixels), page.classes)
    masks = dark_object(pixels, seen, darkest=page.darkest, evident=page.evident)
    dark = on_bright_ground(pixels, masks, brightest=page.brightest)
    return Objects(classifier, pixels, masks, dark)


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
        """Find the dark objects: known, by masks of one's own, or by the rule."""
        found = (known if page.garments else masked if page.masks else ruled)(page)
        count = int(found.dark.sum())
        lightness = depth(found.scenes, found.masks).masked_fill(~found.dark, torch.inf)
        chosen = lightness.argsort()[:count][page.first]
        scenes = found.scenes[chosen]
        fed = {zero: rescaled(found.subject, scaling) for zero, scaling in page.zeros.items()}
        return cls(
            page=page,
            scenes=scenes,
            masks=found.masks[chosen],
            labels=page.classes[chosen],
            names=[page.photographs.names[i] for i in chosen.tolist()],
            fed=fed,
            inputs={zero: fed[zero].scaling.to_network(scenes) for zero in fed},
            count=count,
        )

    def __len__(self) -> int:
        return len(self.scenes)

    def count_text(self) -> str:
        """How many pictures have a dark object, and what to do where none has."""
        lines = [
            f"{self.count} of {len(self.page.pixels)} pictures have a dark object on bright ground"
        ]
        if not self.count:
            lines.append(
                "The thresholds of the rule, darkest, evident and brightest, are parameters."
            )
        return "\n".join(lines)

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
        return map_grid(outlined(self.scenes, self.masks)[few], captions[few], columns, width=11)

    @cached_property
    def explained(self) -> dict[tuple[str, str], Tensor]:
        """Maps by method and by which colour is zero."""
        page = self.page
        compared = {key: page.methods[key] for key in _COMPARED}
        found = {}
        for zero in self.fed if len(self) else ():
            maps = explain(
                compared, self.fed[zero], self.inputs[zero], self.labels, page.precision
            ).maps
            found |= {(key, zero): maps[key] for key in maps}
        return found

    @cached_property
    def densities(self) -> dict[tuple[str, str], np.ndarray]:
        """Density ``[N]`` in the object, by method and by which colour is zero."""
        return {
            key: density(maps, self.masks).cpu().numpy() for key, maps in self.explained.items()
        }

    @cached_property
    def shares(self) -> pd.DataFrame:
        """Attribution inside the objects, as ``region_table`` gives it."""
        return region_table(self.explained, self.masks)

    @cached_property
    def claims(self) -> list[Claim]:
        """What [brocki2020input] says of dark regions, added to the page's claims."""
        return dark_claims(self.page.claims, self.densities)

    def density_panel(self) -> Markdown | None:
        """What to remember of densities; None without dark objects."""
        _, less, _ = self.claims
        if not len(self):
            return None
        rows = self.shares.set_index(["method", "zero"])
        ends = ["density", "density_low", "density_high"]
        black, grey, without = (
            "{:.2f} ({:.2f} to {:.2f})".format(*rows.loc[key, ends])
            for key in ((RECT, "black"), (RECT, "mid-grey"), (MODIFIED, "black"))
        )
        return remember(
            less,
            f"Times the input, RectGrad gives a dark object {black} times the attention of an "
            f"average pixel while black is zero, and {grey} times with mid-grey as zero; without "
            f"the product {without} times, whatever is zero ({len(self)} pictures).",
        )

    def inside(self) -> Figure | None:
        """The share of each map inside the objects."""
        if not len(self):
            return None
        return share_chart(self.shares.assign(method=self.shares["method"].map(self.page.titles)))

    def quantiles(self) -> Figure | None:
        """RectGrad's density in the objects by its percentile q."""
        if not len(self):
            return None
        maps = {}
        for q in self.page.quantiles:
            method = resolve("modified_rectgrad", q=q)
            found = method(self.fed["black"], self.inputs["black"], self.labels)
            maps |= {
                (f"RectGrad, zero is {zero}", q): found * self.inputs[zero] for zero in self.fed
            }
            maps["RectGrad, without ⊙ input", q] = found
        rows = region_table(maps, self.masks)
        return percentile_chart(
            rows.assign(
                q=rows["zero"],
                value=rows["density"],
                low=rows["density_low"],
                high=rows["density_high"],
            )
        )

    def write(self) -> None:
        """Write the shares inside, if there are dark objects."""
        if len(self):
            self.page.write(self.shares, "inside")

    def numbers(self) -> dict[str, float]:
        """How many dark objects there are, and RectGrad's mean density in them, by zero."""
        found = {
            f"density_{key}_{zero.replace('-', '_')}": float(np.nanmean(values))
            for (key, zero), values in self.densities.items()
            if key in (RECT, MODIFIED)
        }
        return {"dark_pictures": len(self)} | {
            name: round(value, 2) + 0.0 for name, value in found.items()
        }
