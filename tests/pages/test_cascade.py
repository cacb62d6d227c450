"""The cascade from end to end: on other people's networks, and as a notebook."""

import pandas as pd
import pytest
import torch
from made.networks import draw
from made.pages import small_page_of
from made.site import RESULTS, smoke_site
from pandas.testing import assert_frame_equal
from saliency_sanity import load_model, resolve
from saliency_sanity.book.chapters.cascade.page import Cascade
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.store import UnusableResult
from saliency_sanity.similarity.metrics import metric

# Networks with the size of input that is enough for them; whether they have rectifiers.
NETWORKS = {
    "resnet18": (64, True),
    "vgg16_bn": (32, True),
    "mobilenet_v3_small": (64, True),
    "densenet121": (32, True),
    "convnext_tiny": (32, False),
    "vit_b_16": (224, False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_is_randomized_or_refused_with_the_reason(name):
    size, rectified = NETWORKS[name]
    model = load_model(name, "none", device="cpu")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = draw(2, 3, size, size)
    outcome = Experiment(
        model,
        x,
        model.predict(x),
        {key: resolve(key) for key in ("gradient", "guided_backprop", "sobel")},
        {"spearman_abs": metric("spearman_abs")},
        seeds=1,
        stage_limit=3,
    )()
    assert len(outcome.stages) == 3
    assert ("guided_backprop" in outcome.refused) == (not rectified)
    if not rectified:
        assert "rectifiers" in outcome.refused["guided_backprop"]
    changed = outcome.matrices["gradient", "spearman_abs"][:, 0].diagonal(axis1=1, axis2=2)
    if name == "vit_b_16":
        # Its constructor gives the last layer zeros, so that no logit depends on the picture.
        assert pd.isna(changed).all()
    else:
        assert (changed[-1] < 0.99).all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def run(folder):
    """What the page's last cells write: its table and its claims."""
    page = small_page_of(
        Cascade,
        folder,
        model="cnn",
        weights="none",
        images="fashion_mnist",
        image_count=6,
        metrics=["spearman_abs", "spearman_signed"],
    )
    page.write_all()
    return pd.read_parquet(folder / f"results/tables/{page.name}.parquet"), page.claims


@pytest.mark.slow
def test_a_run_that_lost_half_of_its_results_ends_with_the_same_table(tmp_path):
    table, claims = run(tmp_path)
    kept = sorted((tmp_path / "results/store").rglob("*.safetensors"))
    assert len(kept) > 50
    for path in kept[::2]:
        path.unlink()
    # Several, of all kinds: what is only made again with others is not read, but replaced.
    for path in kept[1::10]:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UnusableResult, match="set aside"):
        again, same = run(tmp_path)
    assert_frame_equal(again, table, check_exact=True)
    assert same == claims
    assert list((tmp_path / "results/store").rglob("*.damaged"))
    assert all(path.stat().st_size > 100 for path in kept)
    verdicts = {claim.id: claim.verdict for claim in claims}
    assert verdicts["products with the input, by rank correlation, absolute"] == "reproduced"


@pytest.mark.slow
def test_blocks_one_at_a_time_have_claims_of_their_own():
    smoke_site()
    table = pd.read_parquet(RESULTS / "tables/02_cascading_randomization-independent.parquet")
    claims = ClaimTable.read(RESULTS / "claims/02_cascading_randomization-independent.json")
    assert set(table["stage"]) == {"softmax_linear", "fc1", "hidden2", "hidden1", "all"}
    assert [claim.id for claim in claims] == ["products with the input", "guided against gradient"]
