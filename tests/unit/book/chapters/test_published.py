"""Literature: published similarities are whole, in range, and found by their names."""

import pytest
from saliency_sanity.attribution.catalogue import CATALOGUE
from saliency_sanity.book.chapters.published import (
    PERMUTED,
    cascades,
    labels,
    mprt_scores,
    published,
    published_labels,
    published_mprt,
)
from saliency_sanity.subjects.datasets import CLASS_NAMES, TASKS
from saliency_sanity.subjects.small_networks import TRAINABLE

DATA = [data for data in CLASS_NAMES if data not in TASKS]
SUBJECTS = [(network, data) for network in TRAINABLE for data in DATA]
SMALL = [(network, data) for network, data in SUBJECTS if network in ("cnn", "mlp")]
TABLES = [*cascades().values(), *labels().values()]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.brief}, {table.source[-30:]}")
def test_a_table_has_a_correlation_for_every_stage_of_methods_that_exist(table):
    for (method, metric), curve in table.curves.items():
        assert method in CATALOGUE
        assert metric in ("spearman_abs", "spearman_signed", "ssim", "hog")
        assert len(curve) == len(table.stages)
        assert all(value is None or -1 <= value <= 1 for value in curve)


def test_tables_are_found_by_network_and_order_or_data_set():
    assert published("inception_v3", "top_down").stages[0] == "logits"
    assert published("cnn", "bottom_up") is None
    # A value that cannot be read from the figure is none, and no number.
    assert published("inception_v3", "top_down").value("grad_cam", "spearman_abs", "logits") is None


def test_label_tables_exist_for_the_papers_four_subjects_only():
    assert set(SMALL) == set(labels())
    assert all(published_labels(*subject) is None for subject in set(SUBJECTS) - set(SMALL))
    assert published_labels("cnn", "imagenet") is None


@pytest.mark.parametrize("subject", SMALL)
def test_grad_cam_is_published_only_where_there_are_convolutions(subject):
    table = published_labels(*subject)
    for metric in ("spearman_abs", "spearman_signed"):
        known = {method for method, key in table.curves if key == metric}
        assert ("grad_cam" in known) == ("guided_grad_cam" in known) == (subject[0] == "cnn")
        assert len(known) == (8 if subject[0] == "cnn" else 6)


@pytest.mark.parametrize("data", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_products_keep_absolute_ranks_and_lose_signs(network, data):
    # The finding of the paper's section 4: transposed columns would not show it.
    table = published_labels(network, data)
    for method in ("gradient_x_input", "integrated_gradients"):
        level = 0.99 if data == "mnist" else 0.89
        assert table.value(method, "spearman_abs", PERMUTED) == level
        assert table.value(method, "spearman_signed", PERMUTED) <= 0.13
    assert table.value("gradient", "spearman_abs", "another stage") is None
    assert table.value("gradient", "ssim", PERMUTED) is None


def test_published_scores_are_of_methods_that_exist_and_show_the_finding():
    (table,) = mprt_scores().values()
    assert published_mprt("cnn", "fashion_mnist") is table
    assert published_mprt("mlp", "fashion_mnist") is None
    assert set(table.scores) - {"gradient_absolute"} <= set(CATALOGUE)
    for mprt, spread, emprt, own in table.scores.values():
        assert -1 <= mprt <= 1
        assert emprt > -1
        assert min(spread, own) >= 0
    # Transposed columns would not show it: what MPRT finds most alike loses complexity.
    most = max(table.scores, key=lambda method: table.scores[method][0])
    least = min(table.scores, key=lambda method: table.scores[method][2])
    assert most == least == "lrp_zplus"
