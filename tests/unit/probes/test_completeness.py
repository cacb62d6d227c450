import numpy as np
import pytest
import torch
from made.networks import SmallNet, draw, relative, seeded
from saliency_sanity._random import generator
from saliency_sanity.attribution.catalogue import resolve
from saliency_sanity.probes.completeness import line, map_sums, without_biases
from saliency_sanity.subjects.small_networks import build_untrained

X = draw(3, 1, 28, 28, seed=4).abs()
PRODUCT = resolve("gradient_x_input")


@pytest.fixture(params=["cnn", "mlp"])
def network(request):
    """With biases that are large enough to be seen."""
    built = build_untrained(request.param, 0)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator("bias", name)))
    return built.double()


def test_without_biases_the_sum_of_the_product_is_the_logit(network):
    x = X.double()
    with without_biases(network):
        sums = map_sums(PRODUCT, network, x)
        with torch.no_grad():
            logits = network(x)
    assert len(sums) == 30
    assert relative(torch.tensor(sums["sum"]), torch.tensor(sums["logit"])) < 1e-12
    by_hand = sums.pivot(index="image", columns="label", values="logit").to_numpy()
    np.testing.assert_allclose(by_hand, logits.numpy(), rtol=1e-12)
    fitted = line(sums)
    assert fitted.slope == pytest.approx(1, rel=1e-9)
    assert fitted.r2 == pytest.approx(1, rel=1e-9)
    assert abs(fitted.intercept) < 1e-9 * sums["logit"].abs().max()


def test_with_biases_the_rest_is_theirs(network):
    x = X[:1].double()
    sums = map_sums(PRODUCT, network, x)
    biases = [p for name, p in network.named_parameters() if name.endswith("bias")]
    logits = network(x)
    for label in range(10):
        parts = torch.autograd.grad(logits[0, label], biases, retain_graph=True)
        rest = sum((part * bias).sum() for part, bias in zip(parts, biases, strict=True)).item()
        row = sums[sums["label"] == label].iloc[0]
        assert abs(rest) > 1e-3 * abs(row["logit"])
        assert row["sum"] + rest == pytest.approx(row["logit"], rel=1e-9)


def test_biases_come_back_after_an_exception(network):
    before = {key: value.clone() for key, value in network.state_dict().items()}

    def interrupted():
        with without_biases(network):
            assert not any(p.any() for n, p in network.named_parameters() if n.endswith("bias"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_batch_norms_are_refused():
    with pytest.raises(TypeError, match="norm is a batch norm"), without_biases(seeded(SmallNet())):
        pass
