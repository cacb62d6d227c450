"""The page on input bias refuses what cannot be before it explains anything."""

import copy
import dataclasses

import pytest
from made.pages import page_of
from saliency_sanity.book.chapters.claims import DECIDED
from saliency_sanity.book.chapters.input_bias import (
    Colours,
    DarkObjects,
    InputBias,
    Negatives,
    Sanity,
)
from saliency_sanity.subjects.training.loop import train
from saliency_sanity.subjects.training.recipe import Recipe

GIVEN = {
    "model": "cnn",
    "weights": "none",
    "images": "fashion_mnist",
    "pool": 20,
    "image_count": 6,
    "steps": 5,
}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantiles": [80.0, 100.0]}, "q 100.0 must be below 100"),
        ({"grid": [0.0, 100.0]}, "q 100.0 must be below 100"),
        ({"colours": [0.5, 1.5]}, "colour 1.5 is no raw colour"),
        ({"image_count": 99}, "image_count is 99; valid are 1 to 20"),
        ({"dark_count": -1}, "dark_count is -1; valid are 1 and more"),
        ({"masks": "masks"}, "masks is 'masks'; they go with a folder of pictures"),
        ({"metrics": ["spearman"]}, "spearman_abs"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        page_of(InputBias, tmp_path, **GIVEN | given)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """With a network that learned both: 200 of each class, for a few steps."""
    folder = tmp_path_factory.mktemp("bias")
    recipe = Recipe(
        "cnn", images=600, epochs=3.0, learning_rate=1e-3, schedule="one-cycle", negatives=True
    )
    path = folder / "both.safetensors"
    train(recipe, path, progress=False)
    return page_of(InputBias, folder, **GIVEN | {"negative_weights": str(path)})


def test_scales_reach_the_methods(page):
    assert page.q == 98
    assert "q=98.0" in repr(page.methods["modified_rectgrad"])
    assert "samples=50" in repr(page.methods["smoothgrad"])
    assert len(page.x) == 6
    assert len(page.pixels) == 20


def test_dark_garments_are_those_that_the_network_knows_and_the_darkest_comes_first(page):
    dark = DarkObjects.of(page)
    network = page.both_ways
    found = network.predict(network.scaling.to_network(1 - page.pixels))
    known = [a == b for a, b in zip(found.tolist(), page.photographs.labels, strict=True)]
    assert 5 < sum(known) < 20, "otherwise this sees nothing"
    assert len(dark) == dark.count == sum(known)
    assert f"Of 20 negatives it recognises {sum(known)}." in dark.found().data
    lightness = [
        scene[:, mask].mean().item() for scene, mask in zip(dark.scenes, dark.masks, strict=True)
    ]
    assert lightness == sorted(lightness)
    # Whatever is zero, the network takes the dark garment for what it is.
    for zero, rescaled in dark.fed.items():
        assert rescaled.predict(dark.inputs[zero]).tolist() == dark.labels.tolist()
    labels = dict(zip(page.photographs.names, page.photographs.labels, strict=True))
    assert [labels[name] for name in dark.names] == dark.labels.tolist()


def test_the_network_that_learned_no_negatives_knows_few_dark_garments(tmp_path):
    page = page_of(InputBias, tmp_path, **GIVEN)
    assert page.both_ways is page.classifier
    dark, negatives = DarkObjects.of(page), Negatives(page)
    assert len(dark) < 12
    assert {claim.verdict for claim in dark.claims} <= {"inconclusive", "not tested"}
    assert negatives.premise.verdict != "reproduced" or len(negatives._stays) > 16


def test_densities_are_given_for_every_percentile(page):
    dark = DarkObjects.of(page)
    dark.page = dataclasses.replace(page, quantiles=[50.0, 98.0])
    assert sorted(dark.curve["q"].unique()) == [50.0, 98.0]
    at_last = dark.curve[dark.curve["q"] == 98].set_index(["method", "zero"])["density"]
    single = dark.shares.set_index(["method", "zero"])["density"]
    for key in at_last.index:
        assert at_last[key] == pytest.approx(single[key], rel=1e-3), key
    ends = dark.numbers()
    rows = dark.curve.set_index(["method", "zero"]).loc[("rectgrad", "black"), "density"]
    assert ends["density_rectgrad_black_least"] == pytest.approx(rows.min(), abs=0.005)
    assert ends["density_rectgrad_black_most"] == pytest.approx(rows.max(), abs=0.005)
    assert all("q = 50" in claim.measured for claim in dark.claims)


def test_the_colours_that_are_zero_are_those_of_the_pictures(page):
    colours = Colours(page)
    assert list(colours.zeros) == page.colours
    values = set(page.raw.unique().tolist())
    assert set(colours.zeros.values()) <= values
    product, without = zip(*colours._seen[1].values(), strict=True)
    assert set(product) == {0.0}
    assert min(without) >= 0


def test_what_is_said_of_objects_belongs_to_the_page(page):
    garments = DarkObjects.of(page)
    photographs = copy.copy(garments)
    photographs.page = copy.copy(page)
    photographs.page.garments = False
    masked = copy.copy(photographs)
    masked.page = copy.copy(photographs.page)
    masked.page.masks = "masks"
    said = [f"{one.found().data} {one.limits().data}" for one in (garments, photographs, masked)]
    assert ["garment" in one for one in said] == [True, False, False]
    assert ["drawn by hand" in one for one in said] == [False, True, False]
    assert ["your masks" in one for one in said] == [False, False, True]


def test_negatives_that_are_compared_keep_their_class(page):
    negatives = Negatives(page)
    scaling = negatives.network.scaling
    first, second = (
        negatives.network.predict(scaling.to_network(side))
        for side in (page.pixels, 1 - page.pixels)
    )
    kept = (first == second).nonzero().flatten()
    assert negatives.compared.tolist() == kept[:6].tolist()
    said = negatives.found().data
    assert f"{len(kept)} of 20 keep it" in said
    assert "which learned no negatives" in said
    told = negatives.premise.verdict == "reproduced" and len(kept) >= 5
    assert (negatives.table() is not None) == told


def test_claims_on_intervals_are_tried_at_other_margins_and_lower_levels(page):
    page = dataclasses.replace(page, quantiles=[98.0], seeds=2, stage_limit=2)
    found = [*DarkObjects.of(page).claims, Negatives(page).premise, *Sanity(page).claims]
    assert [claim.id for claim in page.claims] == [claim.id for claim in found]
    for claim in found:
        assert set(claim.margins) == {"0.05", "0.2"}
        tested = claim.verdict != "not tested"
        assert (claim.level is not None) == tested
        assert (claim.level == 1) == (tested and claim.verdict not in DECIDED)
    # What asks no margin says the same with any.
    for claim in found[:4]:
        assert set(claim.margins.values()) == {claim.verdict}
