"""The page on input bias refuses what cannot be before it explains anything."""

import pytest
from made.pages import page_of
from saliency_sanity.book.chapters.input_bias import Colours, DarkObjects, InputBias, Negatives

GIVEN = {
    "model": "cnn",
    "weights": "none",
    "images": "fashion_mnist",
    "pool": 20,
    "image_count": 6,
}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantiles": [80.0, 100.0]}, "q 100.0 must be below 100"),
        ({"grid": [0.0, 100.0]}, "q 100.0 must be below 100"),
        ({"colours": [0.5, 1.5]}, "colour 1.5 is no raw colour"),
        ({"image_count": 99}, "image_count is 99; valid are 1 to 20"),
        ({"masks": "masks"}, "masks is 'masks'; they go with a folder of pictures"),
        ({"metrics": ["spearman"]}, "spearman_abs"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        page_of(InputBias, tmp_path, **GIVEN | given)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return page_of(InputBias, tmp_path_factory.mktemp("bias"), **GIVEN)


def test_scales_reach_the_methods(page):
    assert page.q == 98
    assert "q=98.0" in repr(page.methods["modified_rectgrad"])
    assert "samples=50" in repr(page.methods["smoothgrad"])
    assert len(page.x) == 6
    assert len(page.pixels) == 20


def test_dark_garments_are_negatives_and_the_darkest_comes_first(page):
    dark = DarkObjects.of(page)
    assert len(dark) == 6
    assert dark.count_text() == "20 of 20 pictures have a dark object on bright ground"
    lightness = [
        scene[:, mask].mean().item() for scene, mask in zip(dark.scenes, dark.masks, strict=True)
    ]
    assert lightness == sorted(lightness)
    # Whatever is zero, it is the network's own garment.
    for zero, network in dark.fed.items():
        assert network.predict(dark.inputs[zero]).tolist() == dark.labels.tolist()
    assert set(dark.numbers()) == {"dark_pictures"} | {
        f"density_{key}_{zero}"
        for key in ("rectgrad", "modified_rectgrad")
        for zero in ("black", "mid_grey", "white")
    }


def test_the_colours_that_are_zero_are_those_of_the_pictures(page):
    colours = Colours(page)
    assert list(colours.zeros) == page.colours
    values = set(page.raw.unique().tolist())
    assert set(colours.zeros.values()) <= values
    product, without = zip(*colours._seen[1].values(), strict=True)
    assert set(product) == {0.0}
    assert min(without) >= 0


def test_negatives_that_are_compared_keep_their_class(page):
    negatives = Negatives(page)
    kept = negatives.network.predict(negatives.network.scaling.to_network(1 - page.pixels))
    assert (kept[negatives.compared] == page.classes[negatives.compared]).all()
    assert negatives.count_text().endswith("negatives keep their class; at most 6 are compared")
    assert (negatives.table() is None) == (len(negatives.compared) < 5)
