"""RectGrad's percentile, its threshold of zero, and the two switches of its code."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity import resolve
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.compose import Rectified, TimesInput
from saliency_sanity.attribution.rectgrad import Threshold
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.book.chapters.claims import Claim
from saliency_sanity.book.chapters.input_bias.claims import MODIFIED, RECT, tau_claim, trick_claim
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.book.chapters.page import plain_table
from saliency_sanity.plots.maps import map_grid
from saliency_sanity.probes.regions import density, rim
from saliency_sanity.probes.units import moved_table
from saliency_sanity.verdict.wording import kappa_text, rounded

_CONSTANT = TimesInput(Rectified(Gradient(), Threshold(q=None)))
_OFF, _TRICK = "neither", "padding trick"
_SWITCHES = {
    _OFF: {},
    _TRICK: {"padding_trick": True},
    "proportional redistribution": {"proportional": True},
}


@dataclass
class Switches:
    """The section on RectGrad's percentile and its switches."""

    page: InputBias

    def grid(self) -> Figure:
        """Maps of up to two pictures, by percentile."""
        page = self.page
        methods = {"τ = 0": _CONSTANT}
        methods |= {f"q = {q:g}": resolve(RECT, q=q) for q in page.grid}
        two = slice(min(2, page.shown))
        maps = {
            text: method(page.classifier, page.x[two], page.target[two]).cpu()
            for text, method in methods.items()
        }
        pixels, names = page.photographs.pixels, page.photographs.names
        left = [float((found != 0).any(1).float().mean()) for found in maps.values()]
        return map_grid(
            pixels[two],
            names[two],
            maps,
            title=f"RectGrad keeps {left[0]:.0%} of the pixels with τ = 0, and {left[-1]:.0%} with "
            f"{list(maps)[-1]}",
        )

    @cached_property
    def tau(self) -> Claim:
        """That the threshold 0 is guided backpropagation ⊙ input, in double precision."""
        page = self.page
        sample = page.double.scaling.to_network(page.raw[: page.exact].double())
        target = page.target[: page.exact]
        reference = TimesInput(Rectified(Gradient(), Guided()))(page.double, sample, target)
        constant = _CONSTANT(page.double, sample, target)
        off = (constant - reference).abs().max() / reference.abs().max()
        return tau_claim(page.claims, off.item())

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        """RectGrad's maps without the product, by switch."""
        page = self.page
        return {
            text: resolve(MODIFIED, q=page.q, **options)(page.classifier, page.x, page.target)
            for text, options in _SWITCHES.items()
        }

    @cached_property
    def border(self) -> dict:
        """Density ``[N]`` in the outermost ring, by switch."""
        ring = rim(self.page.x)
        return {text: density(found, ring).cpu().numpy() for text, found in self.maps.items()}

    @cached_property
    def trick(self) -> Claim:
        """That the padding trick clears the border, added to the page's claims."""
        sides = self.border[_OFF], self.border[_TRICK]
        (claim,) = self.page.claims.try_claims(
            lambda claims, _, level: trick_claim(claims, *sides, confidence=1 - level),
            self.page.margin,
        )
        return claim

    def table(self) -> Styler:
        """What each switch does to the border and to the map; adds both claims of the section."""
        _ = self.tau, self.trick
        unswitched = dict.fromkeys(self.maps, self.maps[_OFF])
        alike = moved_table(self.maps, unswitched, margin=self.page.margin).set_index("method")
        return plain_table(
            pd.DataFrame(
                {
                    "switch": list(self.maps),
                    "|E| on the border, 1 for the average": [
                        rounded(self.border[text].mean()) for text in self.border
                    ],
                    "kappa with neither": [kappa_text(alike.loc[text]) for text in self.maps],
                }
            )
        )
