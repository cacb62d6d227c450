"""The same bits twice, near double precision, and never the maps of another arithmetic.

Each test runs on the CPU with a small network, and on a GPU with networks of the book.
"""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from made.experiments import IMAGES, METHODS, images, made, same
from made.networks import apt, draw, random_classifier, small
from made.places import ROOT
from made.states import build
from saliency_sanity import CATALOGUE, METRICS, chunk_limit, load_model, load_photographs, metric
from saliency_sanity import _hashing as hashing
from saliency_sanity._arithmetic import arithmetic, is_exact
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.catalogue import is_control
from saliency_sanity.attribution.compose import TimesInput
from saliency_sanity.attribution.lrp import Lrp
from saliency_sanity.experiments import keys
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.experiments.label_permutation import Agreement
from saliency_sanity.experiments.store import Store
from saliency_sanity.similarity.hog import Hog
from scipy.stats import spearmanr

GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
    # What torch says of operations that have no deterministic form.
    pytest.mark.filterwarnings("ignore:.*deterministic implementation"),
]
on_a_gpu = [pytest.param("cuda", marks=GPU)]
on_both = pytest.mark.parametrize("device", ["cpu", *on_a_gpu])
FOUR = {name: metric(name) for name in METRICS}
SMALL = FOUR | {"hog": replace(FOUR["hog"], describe=(Hog(cell=5),))}
PICTURES = 4


@cache
def photographs(network):
    scaling = network.scaling
    return scaling.to_network(load_photographs("foolbox", size=network.size, count=PICTURES).pixels)


def asked(name, device):
    """Networks and pictures for a method: a tiny one, on a GPU those of the book as well."""
    given = [(apt(name), draw(3, 3, 16, 16))]
    if device == "cuda" and "attention" not in CATALOGUE[name].needs:
        lite = load_model("efficientnet_lite0", device="cpu")
        given.append((lite, photographs(lite)))
    return [(network.to(device), x.to(device)) for network, x in given]


@on_both
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_method_gives_the_same_bits_twice(name, device):
    given = asked(name, device)
    if device == "cuda" and len(given) > 1:  # with overlapping max pools
        given.append((random_classifier("resnet18", 64).cuda(), draw(3, 3, 64, 64).cuda()))
    for network, x in given:
        target = network.predict(x)
        once, twice = (
            explain({name: build(name)}, network, x, target).maps[name] for _ in range(2)
        )
        assert torch.equal(once, twice)


@on_both
@pytest.mark.parametrize("name", [name for name in CATALOGUE if not is_control(name)])
def test_single_precision_is_near_double(name, device):
    """Within 1e-3 for the median picture: of single ones, units on their kinks are off by more."""
    for network, x in asked(name, device):
        target = network.predict(x)
        found = explain({name: build(name)}, network, x, target).maps[name].double().flatten(1)
        twin = network.double()
        exact = explain({name: build(name)}, twin, x.double(), target).maps[name].flatten(1)
        off = (found - exact).norm(dim=1) / exact.norm(dim=1)
        assert off.median() < 1e-3
        pairs = zip(found.abs().tolist(), exact.abs().tolist(), strict=True)
        assert np.median([spearmanr(*pair).statistic for pair in pairs]) >= 0.999


def on(device, **changes):
    settings = {"model": small(), "x": images(), "target": torch.arange(IMAGES) % 5} | changes
    return made(**{key: value.to(device) for key, value in settings.items()}, metrics=SMALL)


@on_both
def test_an_experiment_gives_the_same_bits_twice(device):
    assert same(on(device)(), on(device)())


SCRIPT = """
import sys
from dataclasses import replace
import made.experiments as tests
from tests.unit.experiments.test_precision import on
from saliency_sanity.experiments.store import Store
tests.Counted.fuse, tests.Counted.fatal = 12, True
replace(on(sys.argv[1]), store=Store(sys.argv[2]))()
"""


@pytest.mark.parametrize("device", on_a_gpu)
def test_a_run_that_was_killed_ends_with_the_same_bits(device, tmp_path, counting):
    search = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, device, tmp_path],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    whole = on(device)()
    counting.clear()
    assert same(on_store(device, tmp_path)(), whole)
    assert counting


def on_store(device, folder):
    of = on(device)
    return made(model=of.model, x=of.x, target=of.target, metrics=SMALL, store=Store(Path(folder)))


def verdicts(outcome):
    return {key: reading.verdict for key, reading in outcome.readings().items()}


@pytest.mark.parametrize("device", on_a_gpu)
def test_no_verdict_on_photographs_differs_between_devices(device):
    found = []
    for place in ("cpu", device):
        network = load_model("efficientnet_lite0", device=place)
        x = photographs(load_model("efficientnet_lite0", device="cpu")).to(place)
        methods = {name: build(name) for name in ("gradient", "gradient_x_input", "grad_cam")}
        of = {"model": network, "x": x, "target": network.predict(x), "methods": methods}
        found.append(verdicts(made(**of, metrics=FOUR, seeds=5, stage_limit=3)()))
    assert found[0] == found[1]


@on_both
def test_how_many_pictures_go_at_once_changes_no_verdict(device):
    whole = on(device)()
    with chunk_limit(2):
        parts = on(device)()
    assert verdicts(parts) == verdicts(whole)
    for key, matrix in whole.matrices.items():
        np.testing.assert_allclose(parts.matrices[key], matrix, atol=1e-3)


@on_both
def test_what_was_made_in_another_arithmetic_is_made_anew(device, tmp_path, counting):
    of = on_store(device, tmp_path)
    first = of()
    made_once = sum(counting.values())
    kept = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # which a run does not heed
        assert same(on_store(device, tmp_path)(), first)
    finally:
        torch.set_float32_matmul_precision(kept)
    assert sum(counting.values()) == made_once
    short = made(
        model=of.model, x=of.x, target=of.target, metrics=SMALL, store=of.store,
        precision="bfloat16",
    )  # fmt: skip
    second = short()
    assert sum(counting.values()) == 2 * made_once
    assert not same(second, first)
    assert same(short(), second)
    assert same(on_store(device, tmp_path)(), first)
    assert sum(counting.values()) == 2 * made_once


@on_both
def test_bfloat16_is_of_the_network_alone(device):
    seen = {"method": set(), "metric": set(), "statistic": set()}

    def method(model, x, target):
        seen["method"].add(torch.is_autocast_enabled(device))
        found = Gradient()(model, x, target)
        assert found.dtype == x.dtype == torch.float32
        return found

    def similarity(a, b):
        seen["metric"].add(torch.is_autocast_enabled(device) or not is_exact(a.device))
        return (a * b).flatten(1).sum(1)

    def statistic(maps):
        seen["statistic"].add(torch.is_autocast_enabled(device))
        return maps.flatten(1).sum(1)

    of = made(
        model=small().to(device), x=images().to(device), seeds=2, precision="bfloat16",
        target=(torch.arange(IMAGES) % 5).to(device), methods={"own": method},
        metrics={"own": similarity}, statistics={"sum": statistic},
    )  # fmt: skip
    of()
    assert seen == {"method": {True}, "metric": {False}, "statistic": {False}}
    x, target = of.x, of.target
    exact, short = (
        explain({"g": Gradient()}, of.model, x, target, precision).maps["g"]
        for precision in ("exact", "bfloat16")
    )
    assert short.dtype == torch.float32
    off = ((short - exact).norm() / exact.norm()).item()
    assert 1e-4 < off < 0.2
    assert not torch.is_autocast_enabled(device)


@on_both
def test_an_experiment_within_autocast_is_exact(device):
    of = on(device)
    whole = of()
    with torch.autocast(device, torch.bfloat16):
        assert same(of(), whole)
        assert torch.is_autocast_enabled(device)


def test_a_precision_that_cannot_be_is_refused_at_once():
    x, target, net = images(), torch.arange(IMAGES) % 5, small()
    for precision, words in (("tf32", "NVIDIA's GPUs"), ("exakt", "Valid: exact, tf32, bfloat16")):
        with pytest.raises(ValueError, match=words):
            made(precision=precision)
        with pytest.raises(ValueError, match=words):
            Agreement([net], [net], x, METHODS, SMALL, precision=precision)
        with pytest.raises(ValueError, match=words):
            explain(METHODS, net, x, target, precision)
    assert "precision='bfloat16'" in repr(made(precision="bfloat16"))


def test_networks_in_double_precision_stay_what_they_are():
    doubled = {"model": small(torch.float64), "x": images().double()}
    assert made(**doubled)().matrices
    with pytest.raises(ValueError, match=r"torch\.float64; give 'exact'"):
        made(**doubled, precision="bfloat16")


def test_versions_of_what_a_method_or_network_rests_on_are_in_keys(monkeypatch):
    pool = timm.layers.SelectAdaptivePool2d(flatten=True)
    theirs, x = torch.nn.Sequential(pool, torch.nn.Linear(3, 5)), images(1)
    things = {
        "LRP": Lrp("epsilon"), "product": TimesInput(Gradient()), "Sobel": build("sobel"),
        "gradient": Gradient(), "metric": metric("ssim"),
    }  # fmt: skip

    def names():
        keys._class_digest.cache_clear()
        found = {name: hashing.named(thing) for name, thing in things.items()}
        return found | {"timm's": keys.subject(theirs, x), "own": keys.subject(small(), x)}

    before, version = names(), hashing._version
    for package, changed in {
        "skimage": {"Sobel"},
        "timm": {"timm's"},
        "numpy": set(),
    }.items():
        monkeypatch.setattr(hashing, "_version", lambda p, q=package: version(p) + "x" * (p == q))
        assert {name for name, found in names().items() if found != before[name]} == changed
    monkeypatch.undo()
    assert names() == before


def test_keys_tell_the_arithmetic_of_a_gpu_apart():
    found = []
    for precision in ("exact", "tf32"):
        with arithmetic(precision, torch.device("cuda")):
            found.append(keys.in_force(torch.device("cuda")))
    found.append(keys.in_force(torch.device("cuda")))
    assert len({str(one) for one in found}) == 3


@on_both
def test_the_ceiling_of_a_short_precision_is_against_the_exact_one(device):
    """Maps in bfloat16 are compared with exact ones, not with themselves."""
    for precision, low, high in (("exact", 0.9999, 1.0), ("bfloat16", 0.9, 0.9999)):
        outcome = replace(on(device), precision=precision, ceiling=4)()
        own = [np.diagonal(one["arithmetic"][..., :4, :4], axis1=-2, axis2=-1).mean()
               for key, one in outcome.ceilings.items() if key[1] == "spearman_abs"]  # fmt: skip
        assert all(low <= one <= high + 1e-9 for one in own)
