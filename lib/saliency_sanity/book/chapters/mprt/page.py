"""The page on MPRT revisited: sMPRT and eMPRT beside kappa, and what they would rank first."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from saliency_sanity import load_model
from saliency_sanity._errors import known
from saliency_sanity.attribution.catalogue import FIGURES, is_control
from saliency_sanity.book.chapters.claims import ClaimTable, tried
from saliency_sanity.book.chapters.measured import RISE, measured
from saliency_sanity.book.chapters.mprt.claims import (
    complexity_claims,
    denoising_claim,
    order_claim,
    side_claim,
    tail_claim,
)
from saliency_sanity.book.chapters.mprt.quantus import (
    average_counting_untouched,
    bin_table,
    smooth_table,
)
from saliency_sanity.book.chapters.mprt.scores import (
    SCORES,
    agreement,
    flips,
    ranked,
    score_table,
)
from saliency_sanity.book.chapters.page import (
    MethodsPage,
    bullets,
    described,
    pictures_for,
    pictures_used,
    plain_table,
)
from saliency_sanity.book.chapters.published import PublishedScores, published_mprt
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.outcome import Outcome, stage_table
from saliency_sanity.plots.complexity import (
    NOISE_TITLES,
    histogram_chart,
    rank_chart,
    rise_chart,
)
from saliency_sanity.plots.style import save
from saliency_sanity.probes.complexity import (
    BINS,
    STATISTICS,
    SUMMED_RANKS,
    Denoised,
    Rise,
    RiseKind,
    alike,
    noise_rises,
    rises,
    signed_entropy,
)
from saliency_sanity.probes.unrelated import noise
from saliency_sanity.randomization.blocks import ORDERS
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.verdict.interval import interval, mean
from saliency_sanity.verdict.robustness import held_against
from saliency_sanity.verdict.wording import kappa_text, rounded, said

# Its similarity is the one by which the book's verdicts are read; MPRT and sMPRT have their own.
_KAPPA, _RANKS = "spearman_abs", "summed_ranks"
_NOISED = "gradient"  # whose maps the paper calls noisy
_TAILS = ("student-t3", "gaussian")
_CASES = 2  # random networks, at most, to show what Quantus does


@dataclass(kw_only=True)
class MprtRevisited(MethodsPage):
    """One run of the notebook on MPRT revisited; its parameters are described there.

    ``chosen`` are the methods and controls by name, ``classifier`` the trained network, ``x``
    ``[N, C, H, W]`` the pictures in its units, ``target`` ``[N]`` the classes that it finds, which
    are explained before and after, and ``plain`` and ``denoised`` what is run.

    Raises ValueError for a name or number that cannot be, before anything is explained.
    """

    notebook: ClassVar[str] = "10_mprt_revisited"

    model: str
    weights: str
    images: str
    image_count: int
    methods: list[str]
    seeds: int
    orders: list[str]
    stage_limit: int
    copies: int
    noise: float
    smooth_count: int
    smooth_seeds: int
    compared: list[str]
    draws: int
    samples: int
    steps: int
    ig_samples: int
    ig_steps: int
    top: int
    ceiling: int

    def __post_init__(self):
        super().__post_init__()
        self.chosen = self.at_scale(self.methods or FIGURES)
        self._check()
        self.classifier = load_model(self.model, self.weights, self.device, self.seed)
        self.photographs, self.x = pictures_for(self.classifier, self.images, self.image_count)
        self.target = self.classifier.predict(self.x)
        self.smoothed = self.smooth_count or len(self.x)
        if self.smoothed > len(self.x):
            raise ValueError(
                f"smooth_count {self.smooth_count}; valid are 0, for all, to {len(self.x)}, the "
                "pictures there are"
            )
        self.plain = [self._experiment(order) for order in self.orders]
        self.published: PublishedScores | None = published_mprt(self.model, self.images)

    def _check(self) -> None:
        if not self.orders:
            raise ValueError("orders is empty; give one or two of 'bottom_up', 'top_down', 'full'")
        for order in self.orders:
            known("order", order, [one for one in ORDERS if one != "independent"])
        if not self.compared:
            raise ValueError("compared is empty; give a method or two, as 'gradient'")
        for name in self.compared:
            known("method to compare", name, self.chosen)
        if not 1 <= self.smooth_seeds <= self.seeds:
            raise ValueError(
                f"smooth_seeds {self.smooth_seeds}; valid are 1 to {self.seeds}, the random "
                "networks of which some or all are used"
            )
        if self.draws < 2:
            raise ValueError(f"draws {self.draws}; an interval needs at least 2")
        # The method does not matter: what cannot be is refused now.
        Denoised(next(iter(self.chosen.values())), self.copies, self.noise, self.seed)

    def _experiment(self, order: str) -> Experiment:
        return Experiment(
            self.classifier,
            self.x,
            self.target,
            self.chosen,
            {_KAPPA: metric(_KAPPA), _RANKS: SUMMED_RANKS},
            order=order,
            explained="fixed",
            seeds=self.seeds,
            seed=self.seed,
            stage_limit=0 if order == "full" else self.stage_limit,
            store=self.store,
            statistics=STATISTICS,
            precision=self.precision,
            originals=self._originals,
            ceiling=self.ceiling,
        )

    @cached_property
    def _originals(self) -> dict:
        return {}

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """What was measured of plain maps, by order of randomization; the first order counts."""
        return {one.order: one() for one in self.plain}

    @property
    def outcome(self) -> Outcome:
        """That of the first order, whose last stage is the wholly random network."""
        return self.outcomes[self.orders[0]]

    @property
    def refused(self) -> Mapping[str, str]:
        """Why methods do not apply, by name."""
        return self.outcome.refused

    @cached_property
    def smooth(self) -> Outcome:
        """What was measured of denoised maps, the whole network random; the long part."""
        rows = slice(0, self.smoothed)
        experiment = replace(
            self._experiment("full"),
            x=self.x[rows],
            target=self.target[rows],
            methods={
                key: Denoised(method, self.copies, self.noise, self.seed)
                for key, method in self.chosen.items()
                if key not in self.refused
            },
            metrics={_RANKS: SUMMED_RANKS},
            seeds=self.smooth_seeds,
            statistics={},
            originals=None,
            ceiling=0,
        )
        return experiment()

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Kappa of plain maps by method, of the wholly random network."""
        rows = stage_table(self.outcome.readings(margin=self.margin))
        last = rows["stage"] == self.outcome.stages[-1]
        return rows[last & (rows["metric"] == _KAPPA)].reset_index(drop=True)

    @cached_property
    def rise(self) -> dict[str, Rise]:
        """The eMPRT by method."""
        return rises(self.outcome)

    @cached_property
    def mprt(self) -> dict[str, np.ndarray]:
        """MPRT by method, ``[R, N]``."""
        return alike(self.outcome, _RANKS)

    @cached_property
    def smprt(self) -> dict[str, np.ndarray]:
        """The sMPRT by method, ``[R, N]``."""
        return alike(self.smooth, _RANKS)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a method, as ``score_table`` gives it."""
        absolute = rises(self.outcome, "entropy_absolute")
        return score_table(self.readings, self.mprt, self.smprt, self.rise, absolute)

    def table(self) -> Styler:
        """Kappa with its verdict, MPRT, sMPRT and eMPRT, the lowest kappa first."""
        rows = self.scores.sort_values("kappa", kind="stable")
        shown = pd.DataFrame(
            {
                "method": rows["method"].map(self.titles),
                "kappa (95 % interval)": [kappa_text(row) for _, row in rows.iterrows()],
                "verdict": [said(row) for _, row in rows.iterrows()],
                "MPRT": rows["mprt"].map(rounded),
                "sMPRT": [_scored(row, "smprt") for _, row in rows.iterrows()],
                "eMPRT": [_scored(row, "emprt") for _, row in rows.iterrows()],
                "rank by kappa": rows["rank_kappa"].map("{:g}".format),
                "by sMPRT": rows["rank_smprt"].map("{:g}".format),
                "by eMPRT": rows["rank_emprt"].map("{:g}".format),
            }
        )
        for kind in (RiseKind.FLAT, RiseKind.NOT_FINITE):
            column = kind.name.lower()
            if rows[column].any():
                shown[f"eMPRT undefined: {kind}"] = rows[column]
        caption = (
            f"{len(self.x)} pictures and {self.seeds} random networks; sMPRT: {self.copies} copies "
            f"of the first {self.smoothed} pictures, {self.smooth_seeds} random networks."
        )
        return plain_table(shown).set_caption(caption)

    def ranks(self) -> Figure:
        """Places of each method by kappa, sMPRT and eMPRT; the figure is kept."""
        found, count, _ = flips(self.scores, "emprt")
        smooth, many, _ = flips(self.scores, "smprt")
        figure = rank_chart(
            self._titled(self.scores),
            SCORES,
            title=f"Ranks contradict kappa's verdict: {len(smooth)} of {many} by sMPRT, "
            f"{len(found)} of {count} by eMPRT",
            controls=self.controls,
        )
        save(figure, self.figure("ranks"))
        return figure

    def flipped(self) -> Markdown | None:
        """Which methods a rank puts on the other side than kappa's verdict, in sentences."""
        lines = []
        for score in ("smprt", "emprt"):
            found, count, chance = flips(self.scores, score)
            names = " · ".join(self.titles[key] for key in found) or "none"
            rho = agreement(self.scores, score)
            lines.append(
                f"By **{SCORES[score][1]}**, {len(found)} of {count} (a random order: "
                f"{rounded(chance)}): {names}. Rank correlation with kappa: {rounded(rho)}."
            )
        return bullets(lines)

    @cached_property
    def null(self) -> pd.DataFrame:
        """The eMPRT of noise alone, on maps of the pictures' size."""
        return noise_rises(tuple(self.x.shape[2:]), draws=self.draws, seed=self.seed)

    def rises(self) -> Figure:
        """The eMPRT of each method above that of changes of noise alone; the figure is kept."""
        row = self._of_tails
        least = self.scores.loc[~self.scores["method"].map(is_control), "emprt"]
        beaten = int((least < row["value"]).sum())
        figure = rise_chart(
            self._titled(self.scores),
            self.null,
            title=f"Noise with lighter tails than before scores {rounded(row['value'])}: more than "
            f"{beaten} of {least.notna().sum()} methods",
            controls=self.controls,
            published=None
            if self.published is None
            else {
                self.titles[key]: numbers[2]
                for key, numbers in self.published.scores.items()
                if key in self.titles
            },
        )
        save(figure, self.figure("rises"))
        return figure

    @property
    def _of_tails(self) -> pd.Series:
        before, after = _TAILS
        rows = self.null[(self.null["before"] == before) & (self.null["after"] == after)]
        return rows.iloc[0]

    def histograms(self) -> Figure:
        """Values of the first picture's maps before and after, and of noise of two kinds."""
        shape = tuple(self.x.shape[2:])
        before, after = (
            noise(marginal, (1, 1, *shape), self.seed, "histogram") for marginal in _TAILS
        )
        pairs = {self.titles[key]: pair for key, pair in self.quirks[1].items()}
        names = " to ".join(NOISE_TITLES[one] for one in _TAILS)
        pairs[f"noise alone: {names}"] = before, after
        drawn = {
            title: (
                *(maps[0].double().sum(0).cpu().numpy().ravel() for maps in pair),
                *(float(signed_entropy(maps[:1])[0]) for maps in pair),
            )
            for title, pair in pairs.items()
        }
        return histogram_chart(drawn, bins=BINS)

    def beside_published(self) -> Styler | Markdown:
        """The published table beside our numbers; says where there is none."""
        if self.published is None:
            return Markdown("No network of the published table is like this one.")
        kinds = {False: self.rise, True: rises(self.outcome, "entropy_absolute")}
        rows = []
        for key, (mprt, spread, emprt, own) in self.published.scores.items():
            method = "gradient" if key == "gradient_absolute" else key
            if method not in self.mprt:
                continue
            absolute = key != method
            rows.append(
                {
                    "method": f"{self.titles[method]}, absolute" * (method != key)
                    or self.titles[method],
                    "MPRT, published": f"{mprt:.3f} ± {spread:.3f}".replace("-", "−"),
                    "MPRT, ours": _spread(self.mprt[method]),
                    "eMPRT, published": f"{emprt:.3f} ± {own:.3f}".replace("-", "−"),
                    "eMPRT, ours": _spread(kinds[absolute][method].values),
                    "ours, absolute values": _spread(kinds[True][method].values),
                }
            )
        shown = plain_table(pd.DataFrame(rows))
        return shown.set_caption(
            f"Mean ± standard deviation over pictures. Published: {self.published.brief}; "
            f"{self.published.source}. Ours: {len(self.x)} pictures, {self.seeds} random networks, "
            "MPRT of the wholly random ones."
        )

    @cached_property
    def by_order(self) -> dict[str, dict[str, np.ndarray]]:
        """MPRT by order and method, means over the stages before the last, ``[R, N]``."""
        return {
            order: {
                method: mean(
                    np.stack([alike(outcome, _RANKS, at)[method] for at in range(len(stages) - 1)]),
                    axis=0,
                )
                for method in alike(outcome, _RANKS)
            }
            for order, outcome in self.outcomes.items()
            if len(stages := outcome.stages) > 1
        }

    @cached_property
    def quirks(self) -> tuple[pd.DataFrame, dict]:
        """The sMPRT of the compared methods in each case, and their plain maps before and after."""
        methods = {key: self.chosen[key] for key in self.compared if key not in self.refused}
        return smooth_table(
            self.classifier,
            self.x[: self.smoothed],
            self.target[: self.smoothed],
            methods,
            samples=self.copies,
            noise=self.noise,
            seeds=min(self.smooth_seeds, _CASES),
            seed=self.seed,
        )

    def smooth_cases(self) -> Styler:
        """The sMPRT of the compared methods by what ``SmoothMPRT`` does in one case or another."""
        rows = self.quirks[0].drop(columns="case").rename(columns=self.titles | {"what": "what"})
        return plain_table(rows, precision=2)

    def bins(self) -> Styler:
        """The eMPRT of the first compared method by rule for the number of bins."""
        key, (before, after) = next(iter(self.quirks[1].items()))
        rows = bin_table(before, after).rename(
            columns={
                "meant": "bins by the rule",
                "quantus": "bins in Quantus",
                "emprt_meant": "eMPRT by the rule",
                "emprt_quantus": "eMPRT in Quantus",
            }
        )
        caption = f"Maps of {self.titles[key]}, {len(before)} pictures, one random network."
        return plain_table(rows, precision=2).set_caption(caption)

    def averages(self) -> Styler | Markdown:
        """The mean over stages with and without the network that nothing was done to."""
        if not self.by_order:
            return Markdown("Here the whole network is randomized at once, so there is no average.")
        outcome = self.outcomes[next(iter(self.by_order))]
        by_stage = [alike(outcome, _RANKS, at) for at in range(len(outcome.stages))]
        rows = []
        for key in self.compared:
            if key in by_stage[0]:
                values = np.stack([stage[key] for stage in by_stage])
                rows.append(
                    {
                        "method": self.titles[key],
                        "mean over stages": interval(mean(values, axis=0))[0],
                        "as Quantus averages": interval(average_counting_untouched(values))[0],
                    }
                )
        caption = f"{len(outcome.stages)} stages, {', '.join(outcome.stages)}."
        return plain_table(pd.DataFrame(rows), precision=2).set_caption(caption)

    @cached_property
    def claims(self) -> ClaimTable:
        """What [hedstrom2024fresh] says and what we say, held against what was measured here."""
        return tried(self._claims, self.margin)

    def _claims(self, margin: float, level: float) -> ClaimTable:
        claims = ClaimTable(self.name)
        if {"top_down", "bottom_up"} <= set(self.by_order):
            both = (
                {k: v for k, v in self.by_order[order].items() if not is_control(k)}
                for order in ("top_down", "bottom_up")
            )
            order_claim(claims, *both, self.titles, level=level)
        if _NOISED in self.smprt:
            denoised = self.smprt[_NOISED]
            plain = self.mprt[_NOISED][: denoised.shape[0], : denoised.shape[1]]
            denoising_claim(
                claims, plain, denoised, self.titles[_NOISED], copies=self.copies, level=level
            )
        complexity_claims(
            claims,
            self.rise,
            self.titles,
            published=self.published is not None,
            photographs=self.x.shape[1] == 3,
            level=level,
        )
        tail_claim(claims, self.null, tuple(self.x.shape[2:]))
        scores = ranked(held_against(self.scores, margin, level))
        values = {"smprt": self.smprt, "emprt": {k: one.values for k, one in self.rise.items()}}
        for score, own in values.items():
            side_claim(claims, scores, own, score, self.titles, level=level)
        return claims

    def write_all(self) -> None:
        """Write the claims and every table of the page."""
        self.claims.write(self.folder)
        applicable = {key: one for key, one in self.chosen.items() if key not in self.refused}
        self.write(
            described(
                self.outcome.measurements(),
                self.photographs,
                applicable,
                model=self.classifier.name,
            )
        )
        self.write(self.scores.astype({"flip_smprt": "boolean", "flip_emprt": "boolean"}), "scores")
        rises = {key: one.values for key, one in self.rise.items()}
        self.write(measured(rises, RISE, 0.0), "rises")
        self.write(self.null, "noise")
        self.write(self.quirks[0], "quantus")
        self.write_refused(self.refused)

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote, by name."""
        found = {
            "pictures": len(self.photographs),
            "copies": self.copies,
            "smooth_pictures": self.smoothed,
            "smooth_networks": self.smooth_seeds,
            "tails": round(float(self._of_tails["value"]), 3),
        }
        for score in ("smprt", "emprt"):
            names, count, _ = flips(self.scores, score)
            found |= {f"flips_{score}": len(names), f"ranked_{score}": count}
            rho = agreement(self.scores, score)
            if np.isfinite(rho):
                found[f"agreement_{score}"] = round(rho, 2) + 0.0
        return found

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "model": self.model,
                "weights": f"{self.classifier.weights}",
                "images": pictures_used(self.images, len(self.photographs)),
                "random networks": self.seeds,
                "sMPRT": f"{self.copies} copies, {self.smoothed} pictures, {self.smooth_seeds} "
                "random networks",
                "noise": f"{self.noise:g} of a picture's range",
                "ceiling": f"{self.ceiling} pictures" if self.ceiling else "none",
                "bins": BINS,
                "margin": self.margin,
            },
            range(self.seed, self.seed + self.seeds),
            self.x.device,
        )


def _spread(values: np.ndarray) -> str:
    """Mean of values ``[R, N]`` over pictures and networks, and how far pictures differ."""
    pictures = mean(values, axis=0)
    return f"{np.nanmean(pictures):.3f} ± {np.nanstd(pictures):.3f}".replace("-", "−")


def _scored(row: pd.Series, score: str) -> str:
    """A score with its interval."""
    value, low, high = (rounded(row[key]) for key in (score, f"{score}_low", f"{score}_high"))
    return f"{value} ({low} to {high})"
