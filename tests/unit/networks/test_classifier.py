"""What a classifier says of a network that nothing can look into."""

import warnings

import pytest
import torch
from saliency_sanity import Classifier, Scaling
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")


def parts() -> list[nn.Module]:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    return [first.eval(), nn.Sequential(nn.Flatten(), nn.Linear(144, 5))]


def classifier(network: nn.Module) -> Classifier:
    scaling = Scaling((0.5,) * 3, (0.5,) * 3)
    return Classifier(network, name="mine", weights="mine", scaling=scaling, size=8)


X = torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)


@pytest.mark.parametrize("make", ["traced", "traced and frozen", "a traced part", "loaded"])
def test_torchscript_is_named(make, tmp_path):
    first, last = parts()
    traced = torch.jit.trace(nn.Sequential(first, last).eval(), X)
    where = "network 'mine'"
    if make == "traced and frozen":
        traced = torch.jit.freeze(traced)
    elif make == "a traced part":
        where = "'0' of network 'mine'"
        traced = nn.Sequential(torch.jit.trace(first, X), last)
    elif make == "loaded":
        traced.save(tmp_path / "mine.pt")
        traced = torch.jit.load(tmp_path / "mine.pt")
    with pytest.warns(UserWarning, match=rf"{where} is TorchScript .*single block.*nn.Module"):
        model = classifier(traced)
    assert torch.allclose(model(X), nn.Sequential(first, last)(X), atol=1e-5)


def test_nothing_is_said_of_others():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        classifier(nn.Sequential(*parts()))
        classifier(torch.compile(nn.Sequential(*parts())))
