"""What an experiment is said to take, beside what it leaves in the store and how often it runs."""

import math
import re
from dataclasses import replace
from functools import partial

import pytest
from made.experiments import made
from made.networks import small
from made.places import ROOT
from saliency_sanity import resolve
from saliency_sanity.experiments.plan import Plan, planned, rounded
from saliency_sanity.experiments.store import Store
from saliency_sanity.similarity.metrics import metric
from torch import nn


@pytest.mark.parametrize("seeds", [1, 3])
def test_files_and_room_are_those_of_the_store(tmp_path, seeds):
    metrics = {name: metric(name) for name in ("spearman_abs", "ssim")}
    of = made(store=Store(tmp_path), group=4, seeds=seeds, shown=0, metrics=metrics)
    plan, outcome = planned(of), of()
    files = list(tmp_path.glob("*/*.safetensors"))
    assert plan.files == len(files)
    pairs = [*outcome.matrices.values(), *outcome.priors.values()]
    # The last group is filled up in memory only.
    assert plan.bytes == sum(
        array[..., :4, :].nbytes + array[..., 4:, :2].nbytes for array in pairs
    )
    assert plan.bytes < sum(file.stat().st_size for file in files) < plan.bytes + 2500 * len(files)


def test_passes_are_those_that_are_made():
    methods = {"gradient": resolve("gradient"), "smoothgrad": resolve("smoothgrad", samples=3)}
    of = made(methods=methods, group=4, seeds=2, explained="fixed")
    plan = planned(of)
    assert (plan.passes, plan.stages) == (1 + 3, 3)
    assert plan.total == 6 * 4 * (1 + 3 * 2)
    assert plan.seconds > 0
    assert f"{plan.total:.3g} passes, roughly" in str(plan)


def test_the_plan_of_all_of_imagenet():
    plan = Plan(50_000, 32, 12, 1428, 19, 5, 4, 3 * 224 * 224, seconds=1 / 683)
    assert 55e9 < plan.bytes < 62e9
    assert 34e12 < plan.maps < 36e12
    assert plan.hours(10) == pytest.approx(plan.hours() / 10)
    assert plan.hours(10**6) == pytest.approx(plan.hours() / 1563)
    assert "GB of similarities" in str(plan)
    assert "of 10 jobs" in plan.time(10)
    linear = replace(plan, pictures=100_000)
    assert linear.bytes == pytest.approx(2 * plan.bytes, rel=1e-3)


def test_without_a_gradient_no_time_is_known():
    network = nn.Sequential(small().network, nn.Flatten())
    of = made(model=network)
    network[0].requires_grad_(False)
    network[0].register_forward_hook(lambda _module, _inputs, output: output.detach())
    plan = planned(of)
    assert math.isnan(plan.seconds)
    assert "no time is known" in str(plan)


def test_the_page_on_clusters_says_what_the_plan_says():
    text = (ROOT / "book" / "cluster.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    of = partial(Plan, group=32, methods=12, stages=19, networks=5, metrics=4)
    for pictures in (20, 500, 50_000):
        plan = of(pictures, passes=1, elements=3 * 224 * 224, seconds=0.0)
        words = [rounded(plan.bytes), f"{plan.files:,}".replace(",", " "), rounded(plan.maps)]
        assert " | ".join([f"| {pictures:,}".replace(",", " "), *words]) in text
    for name, passes in (("all methods", 1356), ("without IG-SmoothGrad", 106)):
        plan = of(50_000, passes=passes, elements=1, seconds=1 / 683)
        power = plan.total / 10 ** int(math.log10(plan.total))
        assert re.search(rf"\| {name} \| {power:.2f} ×", text)
        assert f"| {plan.hours():,.0f} h |".replace(",", " ") in text
        assert f"{plan.hours(10):.3g} h | {plan.hours(100):.3g} h" in text
