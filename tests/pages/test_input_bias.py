"""The notebook on input bias: known answers, pictures without dark objects, masks of one's own."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made.checkouts import copied
from made.pages import small_page_of
from PIL import Image
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.input_bias.dark_objects import DarkObjects
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.book.runs.runner import run_notebook
from saliency_sanity.subjects.training.checkpoints import trained_path
from saliency_sanity.subjects.training.loop import train
from saliency_sanity.subjects.training.recipe import Recipe

SOURCE = Path("notebooks/05_input_bias.ipynb")
NAME = SOURCE.stem

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A tree of its own, with networks that know a handful of garments, one their negatives too."""
    root = copied(tmp_path_factory.mktemp("bias"), "config", "notebooks")
    with contextlib.chdir(root):
        few = {"batch": 20, "learning_rate": 1e-3}
        for recipe in (
            Recipe("cnn", images=60, epochs=10.0, **few),
            Recipe("cnn", images=200, epochs=8.0, negatives=True, **few),
        ):
            train(recipe, trained_path("cnn", recipe.weights), progress=False)
        yield root


def test_known_answers_on_dark_garments(checkout, tmp_path):
    results = tmp_path / "results"
    given = {"model": "cnn", "images": "fashion_mnist", "pool": 20, "image_count": 6, "seeds": 2}
    given |= {"results": str(results), "negative_weights": "fashion_mnist-negatives"}
    run_notebook(SOURCE, tmp_path / "executed.ipynb", given, profile="smoke", progress=False)
    claims = {c.id: c for c in ClaimTable.read(results / f"claims/{NAME}.json")}
    verdicts = {name: claim.verdict for name, claim in claims.items()}
    # Two dark objects cannot tell.
    assert verdicts["dark objects are not highlighted"] == "inconclusive"
    assert "2 pictures cannot tell" in claims["dark objects are not highlighted"].reason
    assert "of 20 negatives" in claims["a negative shows the same thing"].measured
    for exact in ("shift invariance", "an artificial blind spot", "threshold 0"):
        assert verdicts[exact] == "reproduced"
    assert verdicts["methods that multiply depend on the zero"] == "reproduced"
    tables = results / "tables"
    inside = pd.read_parquet(tables / f"{NAME}-inside.parquet").set_index(["method", "zero"])
    value = inside["value"]
    # What does not multiply has the same share whatever is zero; what multiplies loses the garment
    # where the garment's colour is zero, and the ground where the ground's is.
    for key in ("gradient", "guided_backprop", "modified_rectgrad"):
        assert value[key, "black"] == pytest.approx(value[key, "white"], abs=0.02)
    for key in ("rectgrad", "gradient_x_input", "integrated_gradients", "lrp_epsilon"):
        assert value[key, "black"] < value[key, "mid-grey"] < value[key, "white"]
        assert value[key, "white"] == pytest.approx(1)
    likeness = pd.read_parquet(tables / f"{NAME}-likeness.parquet").set_index(["metric", "method"])
    assert likeness.loc[("input_likeness", "input"), "kappa"] == pytest.approx(1)
    assert likeness.loc[("input_likeness", "noise"), "kappa"] == pytest.approx(0, abs=0.05)
    colours = pd.read_parquet(tables / f"{NAME}-colours.parquet")
    lowest = colours[(colours["method"] == "zero_0.00") & (colours["at"] == 0)]
    assert lowest.set_index("panel")["value"]["rectgrad"] < 0.02  # the level holds shades beside it
    assert lowest.set_index("panel")["value"]["modified_rectgrad"] > 0


def folder_of(path, **pictures):
    path.mkdir()
    for name, values in pictures.items():
        Image.fromarray(np.uint8(values)).save(path / f"{name}.png")
    return path


def dark_objects(folder, **given):
    """What the section on dark objects says: how many there are, and the page's verdicts."""
    page = small_page_of(InputBias, folder, **given)
    dark = DarkObjects.of(page)
    assert len(dark.claims) == 3
    figures = dark.maps(), dark.density_panel(), dark.inside(), dark.quantiles()
    assert all(figure is None for figure in figures) == (len(dark) == 0)
    return dark.found().data, {claim.id: claim.verdict for claim in page.claims}


def test_pictures_without_dark_objects_and_masks_of_ones_own(checkout, tmp_path):
    scene = np.full((64, 64, 3), 230)
    scene += np.arange(64)[:, None, None] % 7  # not flat
    pictures = folder_of(tmp_path / "pictures", one=scene, two=scene[::-1] - 20)
    bright = {"model": "cnn", "images": str(pictures), "pool": 0}
    said, verdicts = dark_objects(tmp_path / "bright", **bright)
    assert "0 of 2 pictures have a dark object" in said
    assert verdicts["dark objects are not highlighted"] == "not tested"
    mask = np.zeros((64, 64))
    mask[16:48, 16:48] = 255
    masks = folder_of(tmp_path / "masks", one=mask, two=mask)
    # An object of the ground's colour is not dark, another is; one is too few for a verdict.
    hidden = scene.copy()
    scene[16:48, 16:48] //= 8
    one_dark = folder_of(tmp_path / "dark", one=hidden, two=scene[::-1] - 20)
    given = bright | {"images": str(one_dark), "masks": str(masks)}
    said, verdicts = dark_objects(tmp_path / "found", **given)
    assert "1 of 2 pictures" in said
    assert verdicts["dark objects are not highlighted"] == "inconclusive"
    small = folder_of(tmp_path / "small", one=mask[:32], two=mask[:32])
    with pytest.raises(ValueError, match="64 x 32 pixels"):
        DarkObjects.of(small_page_of(InputBias, tmp_path, **bright, masks=str(small)))
    empty = folder_of(tmp_path / "empty", one=0 * mask, two=mask)
    with pytest.raises(ValueError, match=r"one\.png is empty"):
        DarkObjects.of(small_page_of(InputBias, tmp_path, **bright, masks=str(empty)))
