import pandas as pd
import pytest
import torch
from saliency_sanity import load_model, resolve
from saliency_sanity.attribution.compose import baseline_of
from saliency_sanity.book.chapters.competition.completeness import (
    fits,
    predicted_sums,
    sums_of_labels,
)


def test_lines_come_in_the_order_of_the_table():
    twice = pd.DataFrame({"kind": "b", "logit": [0.0, 1.0, 2.0], "sum": [1.0, 3.0, 5.0]})
    same = pd.DataFrame({"kind": "a", "logit": [0.0, 1.0, 2.0], "sum": [0.0, 1.0, 2.0]})
    found = fits(pd.concat([twice, same]))
    assert found["sum of"].tolist() == ["b", "a"]
    assert found["slope"].tolist() == pytest.approx([2, 1])
    assert found["intercept"].tolist() == pytest.approx([1, 0])
    assert found["R²"].tolist() == pytest.approx([1, 1])


def test_without_biases_the_product_sums_up_to_the_logit():
    network = load_model("cnn", "none", "cpu").double()
    x = torch.rand(12, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = resolve("gradient_x_input")
    labels = sums_of_labels({"product": product}, network, x)
    assert [set(part["kind"]) for part in labels] == [{"product"}, {"product, biases zero"}]
    assert all(part["image"].max() == 9 for part in labels), "ten pictures"
    assert labels[1]["sum"].to_numpy() == pytest.approx(labels[1]["logit"].to_numpy())
    target = network.predict(x)
    maps = product(network, x, target)
    (found,) = predicted_sums({"product": product}, {"product": maps}, network, x, target)
    assert set(found["kind"]) == {"product, predicted class"}
    assert found["sum"].to_numpy() == pytest.approx(maps.sum((1, 2, 3)).numpy())
    logits = network.logits(x).max(1).values
    assert found["logit"].to_numpy() == pytest.approx(logits.detach().numpy())


def test_a_batch_norm_is_a_bias_that_cannot_be_zero(small_net):
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = sums_of_labels({"product": resolve("gradient_x_input")}, small_net, x)
    assert [set(part["kind"]) for part in labels] == [{"product"}]


@pytest.mark.parametrize("baseline", [None, 0.5])
def test_integrated_gradients_sum_up_to_the_logit_less_the_baselines(baseline):
    network = load_model("cnn", "none", "cpu").double()
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    path = resolve("integrated_gradients", steps=40, rule="midpoint", baseline=baseline)
    start = torch.zeros_like(x) + baseline_of(network, x, baseline)
    target = network.predict(x)
    (table,) = predicted_sums(
        {"path": path}, {"path": path(network, x, target)}, network, x, target
    )
    less = (network.logits(x) - network.logits(start)).gather(1, target[:, None])[:, 0].detach()
    assert table["logit"].to_numpy() == pytest.approx(less.numpy())
    assert table["sum"].to_numpy() == pytest.approx(less.numpy(), abs=0.05)
