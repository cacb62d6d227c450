"""Layers of Grad-CAM: which are tried, what is measured there, and claims that hang on them."""

import numpy as np
import pandas as pd
import pytest
from made.experiments import Counted, images, made
from made.networks import SCALING, seeded
from saliency_sanity import Classifier
from saliency_sanity.attribution.catalogue import resolve
from saliency_sanity.attribution.gradcam import GradCAM
from saliency_sanity.book.chapters.cascade.claims import cascade_claims, read_stages
from saliency_sanity.book.chapters.cascade.layers import (
    at_layers,
    cam_layers,
    layer_styled,
    layer_table,
    over_layers,
)
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.experiments.outcome import stage_table
from saliency_sanity.experiments.store import Store
from saliency_sanity.verdict.reading import read
from torch import nn

SIZE = 48


def tower(*convolutions):
    """A classifier of convolutions (padding, stride) of 3 x 3, and a last linear layer."""
    layers = [
        nn.Conv2d(3 if i == 0 else 4, 4, 3, stride=stride, padding=padding)
        for i, (padding, stride) in enumerate(convolutions)
    ]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return Classifier(
        seeded(network).eval(), name="tower", weights="random", scaling=SCALING, size=SIZE
    )


def size_after(convolutions, size=SIZE):
    for padding, stride in convolutions:
        size = (size + 2 * padding - 3) // stride + 1
    return size


# 48, 46, 23, 23, 12, 4 and 1 places a side.
DEEP = ((1, 1), (0, 1), (1, 2), (1, 1), (1, 2), (0, 3), (0, 4))


@pytest.mark.parametrize(
    ("own", "count", "wanted"),
    [
        ("5", 3, ("5", "4", "3")),
        ("5", 4, ("5", "4", "3", "1")),  # not 0, which has hardly more places than 1
        ("5", 9, ("5", "4", "3", "1")),
        ("2", 4, ("5", "4", "2", "1")),  # not 3, which has as many as its own
        ("0", 9, ("5", "4", "3", "0")),
        ("0", 2, ("5", "0")),
    ],
)
def test_layers_are_the_deepest_of_other_resolutions_beside_the_own_one(own, count, wanted):
    found = cam_layers(tower(*DEEP), images(2, SIZE), own, count)
    assert tuple(found) == wanted
    for path, places in found.items():
        assert places == (size_after(DEEP[: int(path) + 1]),) * 2


def test_a_layer_without_places_has_no_others_and_an_unknown_one_is_refused():
    model = tower(*DEEP)
    assert cam_layers(model, images(2, SIZE), "6") == {}, "a single place"
    assert cam_layers(model, images(2, SIZE), "9") == {}, "logits"
    with pytest.raises(ValueError, match="unknown layer 'fifth'"):
        cam_layers(model, images(2, SIZE), "fifth")


def test_maps_at_a_layer_are_those_of_grad_cam_there_and_known_ones_are_not_made_again(tmp_path):
    own = Counted(GradCAM("second"), "own")
    base = made(methods={"grad_cam": own}, seeds=2, store=Store(tmp_path))
    whole = base()
    Counted.calls.clear()
    stages = (whole.stages[0],)
    found = at_layers(base, {"grad_cam": own}, ("second", "first"), "second", stages)()
    assert Counted.calls == {}
    assert found.stages == (whole.stages[0], whole.stages[-1])
    ends = [0, len(whole.stages) - 1]
    np.testing.assert_array_equal(
        found.matrices["grad_cam@second", "spearman_abs"],
        whole.matrices["grad_cam", "spearman_abs"][ends],
    )
    other = made(methods={"grad_cam": resolve("grad_cam", layer="first")}, seeds=2)()
    np.testing.assert_array_equal(
        found.matrices["grad_cam@first", "spearman_abs"],
        other.matrices["grad_cam", "spearman_abs"][ends],
    )
    table = layer_table(found, 0.1)
    assert set(table["layer"]) == {"first", "second"}
    assert set(table["method"]) == {"grad_cam"}
    places = {"second": (8, 8), "first": (16, 16)}
    shown = layer_styled(table, places, "spearman_abs", {"grad_cam": "Grad-CAM"}).data
    assert shown.index.tolist() == ["second, 8 × 8", "first, 16 × 16"]
    assert shown.columns.tolist() == [f"Grad-CAM, {stage}" for stage in found.stages]


@pytest.mark.parametrize(
    ("one", "other", "hangs"),
    [
        (("reproduced", 0.6, 0.8), ("reproduced", 0.9, 1.0), False),
        (("reproduced", 0.6, 0.8), ("not reproduced", 0.1, 0.4), True),
        (("reproduced", 0.6, 0.8), ("inconclusive", 0.4, 0.59), True),  # they do not meet
        (("reproduced", 0.6, 0.8), ("inconclusive", 0.4, 0.7), False),  # too few pictures, maybe
        (("inconclusive", 0.6, 0.8), ("inconclusive", 0.1, 0.4), False),  # none is decided
        (("reproduced", 0.6, 0.8), ("cannot tell", 0.1, 0.4), False),
        (("reproduced", 0.6, 0.8), ("inconclusive", np.nan, np.nan), False),
    ],
)
def test_a_claim_hangs_on_the_layer_where_more_pictures_would_not_help(one, other, hangs):
    given = {"near": one, "far": other}
    verdicts = {layer: verdict for layer, (verdict, *_) in given.items()}
    rows = {layer: [{"low": low, "high": high}] for layer, (_, low, high) in given.items()}
    found, said = over_layers(verdicts, rows)
    assert found == hangs
    assert all(f"{verdict} at" in said for verdict in verdicts.values())


def square(kappa, seed):
    values = 0.02 * np.random.default_rng(seed).standard_normal((5, 8, 8))
    values[:, np.arange(8), np.arange(8)] += kappa
    return values


STAGES = ("fc", "three", "two", "one")


def rows(kappas):
    """Readings of guided Grad-CAM with these kappas, stage by stage."""
    found = {
        ("guided_grad_cam", "spearman_abs", stage): read(square(kappa, i))
        for i, (stage, kappa) in enumerate(zip(STAGES, kappas, strict=True))
    }
    return stage_table(found, {stage: (i + 1) / 4 for i, stage in enumerate(STAGES)})


@pytest.mark.parametrize(
    ("deep", "verdict", "says"),
    [
        ((0.9, 0.9, 0.9, 0.2), "cannot tell", "not reproduced at own; reproduced at deep"),
        ((0.4, 0.4, 0.4, 0.2), "not reproduced", "not reproduced at own, deep"),
    ],
)
def test_what_other_layers_decide_otherwise_cannot_be_told(deep, verdict, says):
    table = rows((0.3, 0.2, 0.3, 0.0))
    stages = read_stages(table, "spearman_abs")
    assert stages == ["fc", "three", "one"], "first, where it is lowest in the upper half, last"
    layers = pd.concat(
        part[part["stage"].isin(stages)].assign(layer=layer)
        for layer, part in {"own": table, "deep": rows(deep)}.items()
    )
    claims = ClaimTable("x")
    cascade_claims(claims, table, None, 0.1, layers)
    found = {claim.of: claim for claim in claims}
    assert found["upper-layers-leave"].verdict == verdict
    assert says in found["upper-layers-leave"].reason
    # Both fall.
    assert found["lower-layers-change"].verdict == "reproduced"
    assert "reproduced at own, deep" in found["lower-layers-change"].reason
