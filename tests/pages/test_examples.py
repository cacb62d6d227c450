"""The two methods of the worked example: one fails, one passes, both keep the contract."""

import ast

import pytest
import torch
from made.networks import draw, small
from made.places import ROOT
from saliency_sanity import load_model, load_photographs, resolve
from saliency_sanity._hashing import source_digest
from saliency_sanity.contract.trial import check_method
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.similarity.metrics import metric

FILES = sorted((ROOT / "examples").glob("*.py"))
NAMES = ("edge_focus", "mean_gradient")
PATHS = {name: f"examples.{name}:{name}" for name in NAMES}


def test_each_file_is_a_method_of_ten_lines_that_needs_torch_alone():
    assert [path.stem for path in FILES] == list(NAMES)
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        _, imported, method = tree.body
        assert ast.unparse(imported) == "import torch"
        assert method.name == path.stem
        first, last = method.body[1].lineno, method.end_lineno
        assert last - first + 1 <= 10


@pytest.fixture(scope="module")
def garments():
    """A CNN that has learned nothing, and ten pictures for it."""
    model = load_model("cnn", "none", device="cpu")
    pixels = load_photographs("fashion_mnist", size=28, count=10, channels=1).pixels
    return model, model.scaling.to_network(pixels)


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract(name, garments):
    method = resolve(PATHS[name])
    model, x = garments
    for network, pictures in ((model, x), (small(), draw(3, 3, 16, 16))):
        target = network.predict(pictures)
        report = check_method(name, method, network, pictures, target)
        assert not report, report
        assert report.unchecked == ()
    assert source_digest(method)


def test_the_mean_gradient_is_the_librarys_gradient_of_ten_noisy_copies(garments):
    model, x = garments
    gradient, target = resolve("gradient"), model.predict(x)
    generator = torch.Generator().manual_seed(0)
    noisy = x[:, None] + 0.3 * torch.randn(10, *x.shape[1:], generator=generator)
    maps = [gradient(model, noisy[:, i].contiguous(), target) for i in range(10)]
    found = resolve(PATHS["mean_gradient"])(model, x, target)
    expected = torch.stack(maps).mean(0)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_one_is_driven_by_the_picture_and_the_other_responds(garments):
    model, x = garments
    methods = {name: resolve(path) for name, path in PATHS.items()}
    metrics = {name: metric(name) for name in ("spearman_abs", "ssim")}
    outcome = Experiment(model, x, model.predict(x), methods, metrics, seeds=5, stage_limit=2)()
    for (method, _, stage), reading in outcome.readings().items():
        if stage != outcome.stages[-1]:
            continue
        assert reading.verdict == {"edge_focus": "above", "mean_gradient": "below"}[method]
        if method == "edge_focus":
            assert reading.kappa > 0.9
            assert reading.explained_by_prior
