"""Charts with the longest names there are: nothing is small, cut off or on anything else."""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from made.figures import assert_readable
from saliency_sanity.attribution.catalogue import CATALOGUE, title
from saliency_sanity.plots.complexity import histogram_chart, rank_chart, rise_chart
from saliency_sanity.plots.convergence import convergence_chart, factors_chart, logits_chart
from saliency_sanity.plots.input_bias import share_chart
from saliency_sanity.plots.price import price_chart
from saliency_sanity.plots.rankings import preparation_dots, rank_slopes, score_ranking
from saliency_sanity.plots.recovery import changes_chart, recovery_chart, recovery_grid
from saliency_sanity.plots.scales import edge_chart, scale_heatmap
from saliency_sanity.plots.stages import kappa_heatmap
from saliency_sanity.plots.style import VERDICTS, use_style
from saliency_sanity.probes.random_logit import FLIPS
from saliency_sanity.similarity.metrics import METRICS

NAMES = [title(key) for key in CATALOGUE]
CONTROLS = NAMES[-3:]
FINDING = "Of all methods eleven respond to random weights, and seven stay driven by the picture"
STAGES = ["classifier", "blocks.5.3.conv_pwl", "blocks.2.0.conv_dw", "conv_stem"]
DRAW = np.random.default_rng(0)
START = DRAW.bit_generator.state


@pytest.fixture(autouse=True)
def styled():
    DRAW.bit_generator.state = START  # the same for a chart whichever others were drawn before
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def rows(**columns):
    """A row for each combination of the columns' values, with numbers that a chart draws."""
    table = pd.DataFrame(product(*columns.values()), columns=[*columns])
    value = DRAW.uniform(-0.3, 1, len(table))
    limits = {"low": value - 0.2, "high": value + 0.2}
    verdict = [[*VERDICTS][number % len(VERDICTS)] for number in range(len(table))]
    return table.assign(value=value, kappa=value, verdict=verdict, chance=0.1, **limits)


def scores():
    return rows(method=NAMES).assign(
        emprt=lambda table: table["value"],
        emprt_low=lambda table: table["low"],
        emprt_high=lambda table: table["high"],
        flip_smprt=False,
        flip_emprt=True,
        smprt=DRAW.uniform(size=len(NAMES)),
    )


def ranks():
    columns = {"kappa": (True, "kappa"), "smprt": (True, "sMPRT"), "emprt": (False, "eMPRT")}
    return rank_chart(scores(), columns, title=FINDING, controls=CONTROLS)


def rises():
    noises = ["student-t3", "laplace", "gaussian", "uniform"]
    null = rows(before=noises, after=noises)
    return rise_chart(
        scores(), null, title=FINDING, controls=CONTROLS, published={NAMES[0]: 0.4, NAMES[5]: -0.2}
    )


def histograms():
    values = DRAW.normal(size=3000)
    names = [*sorted(NAMES, key=len)[-3:], "noise alone: Student's t to Gaussian"]
    return histogram_chart(dict.fromkeys(names, (values, values**3, 2.14, 0.86)), bins=100)


def factors():
    kinds = ["with signs, as the weights are", "without negative entries, their absolute values"]
    return factors_chart({kind: DRAW.uniform(size=(31, 9)) for kind in kinds}, 0.2, FINDING)


def convergence():
    titles = dict(zip(NAMES, NAMES, strict=True))
    table = rows(method=NAMES[:9], start=STAGES[:3], layer=STAGES).assign(
        position=lambda table: [STAGES[::-1].index(layer) for layer in table["layer"]],
        median=lambda table: table["value"],
    )
    return convergence_chart(table, titles, FINDING, converged=0.99)


def logits():
    table = rows(method=NAMES, flip=FLIPS).assign(
        similarity=lambda table: table["value"],
        similarity_low=lambda table: table["low"],
        similarity_high=lambda table: table["high"],
        chance_low=0.0,
        chance_high=0.2,
    )
    return logits_chart(table, dict(zip(NAMES, NAMES, strict=True)), FINDING, alike=0.9)


def prices():
    table = rows(network=["EfficientNet-Lite0", "Inception v3"], method=NAMES).assign(
        seconds=lambda table: DRAW.uniform(0.01, 30, len(table)),
        ceiling=0.95,
        control=lambda table: table["method"].isin(CONTROLS),
    )
    return price_chart(table, margin=0.1)


def ranking():
    table = rows(metric=["ssim", "spearman_abs"], method=NAMES)
    return score_ranking(
        table, ["ssim", "spearman_abs"], control=CONTROLS[0], controls=CONTROLS, title=FINDING
    )


def slopes():
    names = ["changes most\nfrom the logits down", "insertion less\ndeletion", "from the input up"]
    places = {name: dict(zip(NAMES, DRAW.permutation(len(NAMES)), strict=True)) for name in names}
    return rank_slopes(places, control=CONTROLS[0], controls=CONTROLS, title=FINDING)


def preparations():
    words = {
        "a": "moved and scaled to [0, 1]",
        "b": "divided by the largest absolute value",
        "c": "divided by the root of the mean square",
    }
    return preparation_dots(
        rows(metric=[*words], method=NAMES),
        words,
        control=CONTROLS[0],
        controls=CONTROLS,
        title=FINDING,
    )


def recovered():
    names = [f"GBP\n{units} filters" for units in (16, 64, 256, 1024)]
    maps = {name: torch.randn(3, 3, 9, 9) for name in [*names, "DCN, pool\n256 filters"]}
    return recovery_grid(torch.rand(3, 3, 9, 9), maps, FINDING)


def units():
    kinds = {"local": "one convolution of 7 px", "pooled": "with max pooling over 9 px"}
    table = rows(network=[*kinds], method=NAMES[:3], units=[16, 64, 256, 1024])
    return recovery_chart(table.assign(expected=table["value"]), kinds, FINDING)


def changes():
    causes = {
        "noise": "noise of the same size",
        "class": "another class, the same picture",
        "attack": "adversarial picture, its own class",
    }
    table = rows(method=NAMES, metric=[*METRICS], cause=[*causes]).assign(obstacle="")
    return changes_chart(table, [*METRICS], causes, 0.5, FINDING, controls=CONTROLS)


def scales():
    orders = ["top_down", "bottom_up"]
    layers = [f"blocks.{number}.{number}" for number in range(18)]
    stages = ["classifier", "blocks.5.2", "conv_stem"]
    table = rows(order=orders, stage=stages, layer=layers).assign(
        position=lambda table: [stages.index(stage) for stage in table["stage"]],
        place=lambda table: [layers.index(layer) for layer in table["layer"]],
        random=True,
        quantity="norms",
    )
    return scale_heatmap(table, "norms", title=FINDING)


def edge():
    words = {
        "carried": "trained norm with\ninfluence afterwards",
        "influence": "influence before\nwith influence afterwards",
        "top": "large before, and among the quarter\nwith most influence afterwards",
    }
    table = rows(quantity=[*words], stage=STAGES).assign(
        position=lambda table: [STAGES.index(stage) for stage in table["stage"]],
        label=lambda table: [f"{26 * STAGES.index(stage)}%" for stage in table["stage"]],
    )
    titles = {"rank": "Rank correlation over channels", "share": "Share of large channels"}
    return edge_chart(table, words, titles=titles, title=FINDING)


def shares():
    found = "{} decides: 18 of 18 methods\nhave more on it than under the other task"
    table = rows(
        method=NAMES,
        panel=[found.format(name) for name in ("the garment", "the shape")],
        zero=["trained on this task", "trained on the other task", "random network"],
    )
    areas = {"area": 0.25, "area_low": 0.24, "area_high": 0.26}
    return share_chart(table.assign(**areas), told="{}", controls=CONTROLS, title=FINDING)


def heatmap():
    table = rows(order=["from the logits down", "from the input up"], method=NAMES, stage=STAGES)
    places = [STAGES.index(stage) for stage in table["stage"]]
    return kappa_heatmap(table.assign(position=places), controls=CONTROLS, title=FINDING)


@pytest.mark.parametrize(
    "chart",
    [
        ranks,
        rises,
        histograms,
        factors,
        convergence,
        logits,
        prices,
        ranking,
        slopes,
        preparations,
        recovered,
        units,
        changes,
        scales,
        edge,
        shares,
        heatmap,
    ],
    ids=lambda chart: chart.__name__,
)
def test_nothing_runs_into_anything(chart):
    figure = chart()
    assert_readable(figure)
    assert len(figure.get_label().split()) > 5, "it says what was found"
