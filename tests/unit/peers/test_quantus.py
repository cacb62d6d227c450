"""Quantus' conventions, both ways, against Quantus where it is installed."""

import numpy as np
import pytest
import torch
from made.networks import draw, relative, seeded
from saliency_sanity import resolve
from saliency_sanity.contract.trial import check_method
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.peers import quantus
from saliency_sanity.similarity.metrics import METRICS, metric
from torch import nn

TARGET = torch.tensor([0, 1, 2, 3])


@pytest.fixture
def net():
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()
    return seeded(nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 20 * 20, 5))).eval()


@pytest.fixture
def x():
    return draw(4, 3, 24, 24)


def slope(model, inputs, targets, device=None, sign=1.0):
    """Somebody's explain_func."""
    leaf = torch.as_tensor(inputs, device=device).requires_grad_()
    score = model(leaf).gather(1, torch.as_tensor(targets)[:, None]).sum()
    return sign * torch.autograd.grad(score, leaf)[0].numpy()


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("shape", [(48, 48), (3, 48, 48)])
def test_flat_maps_are_compared_as_the_maps_they_are(name, shape):
    a, b = draw(4, *shape), draw(4, *shape, seed=1)
    compare = quantus.similarity_func(metric(name), shape)
    found = compare(a.flatten(1).numpy(), b.flatten(1).numpy(), batched=True)
    assert found == pytest.approx(metric(name)(a.double(), b.double()).numpy(), rel=1e-6)
    alone = compare(a[1].flatten().numpy(), b[1].flatten().numpy())
    assert isinstance(alone, float)
    assert alone == pytest.approx(found[1])


def test_another_shape_is_refused():
    for shape in ((24,), (1, 3, 24, 24), (0, 24)):
        with pytest.raises(ValueError, match=r"\(H, W\) or \(C, H, W\)"):
            quantus.similarity_func(metric("ssim"), shape)
    compare = quantus.similarity_func(metric("ssim"), (24, 24))
    with pytest.raises(ValueError, match="maps of 100 values cannot have the shape"):
        compare(np.zeros(100), np.zeros(100))


def test_a_method_explains_by_their_convention(net, x):
    explain = quantus.explain_func(resolve("gradient_x_input"))
    found = explain(net, x.numpy(), TARGET.numpy(), device="cpu")
    assert isinstance(found, np.ndarray)
    assert relative(torch.from_numpy(found), resolve("gradient_x_input")(net, x, TARGET)) < 1e-12


def test_their_explanation_is_a_method_that_keeps_the_contract(net, x):
    method = quantus.method(slope, sign=-1.0)
    assert relative(method(net, x, TARGET), -resolve("gradient")(net, x, TARGET)) < 1e-6
    assert not [v for v in check_method("slope", method, net, x, TARGET) if v.severity == "error"]
    assert repr(method) != repr(quantus.method(slope))
    with pytest.raises(ValueError, match="has to be a number"):
        quantus.method(slope, sign=object())


def test_in_a_file_it_is_a_method_by_its_name(net, x, tmp_path, monkeypatch):
    (tmp_path / "my_explanations.py").write_text(
        "from saliency_sanity.peers.quantus import method\n"
        "mine = method(lambda model, inputs, targets, device=None: inputs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert torch.equal(resolve("my_explanations:mine")(net, x, TARGET), x)


def test_maps_without_channels_are_taken(net, x):
    method = quantus.method(lambda **given: slope(**given).sum(1))
    expected = resolve("gradient")(net, x, TARGET).sum(1, keepdim=True)
    assert relative(method(net, x, TARGET), expected) < 1e-6


def test_an_experiment_takes_their_explanation(net, x):
    methods = {"theirs": quantus.method(slope), "ours": resolve("gradient")}
    given = {"seeds": 1, "ceiling": 0}
    outcome = Experiment(
        net, x, TARGET, methods, {"spearman_abs": metric("spearman_abs")}, **given
    )()
    assert outcome.matrices["theirs", "spearman_abs"] == pytest.approx(
        outcome.matrices["ours", "spearman_abs"], abs=1e-6, nan_ok=True
    )


def test_quantus_measures_what_we_do(net, x):
    library = pytest.importorskip("quantus")
    own = metric("ssim")
    test = library.MPRT(
        similarity_func=quantus.similarity_func(own, (3, 24, 24)),
        normalise=False,
        abs=False,
        disable_warnings=True,
        display_progressbar=False,
        seed=3,
    )
    explain = quantus.explain_func(resolve("gradient"))
    found = test(
        model=net,
        x_batch=x.numpy(),
        y_batch=TARGET.numpy(),
        explain_func=explain,
        channel_first=True,
        device="cpu",
    )
    before = resolve("gradient")(net, x, TARGET)
    assert found["original"] == pytest.approx(np.ones(4), abs=1e-6)
    from quantus.helpers.model.pytorch_model import PyTorchModel

    walk = PyTorchModel(net, channel_first=True).get_random_layer_generator("top_down", seed=3)
    for name, randomized in walk:
        after = resolve("gradient")(randomized, x, TARGET)
        assert found[name] == pytest.approx(own(before, after).numpy(), rel=1e-5)
