import dataclasses
import functools
import importlib
import os
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made.experiments import (
    IMAGES,
    METHODS,
    METRIC,
    Counted,
    images,
    made,
    same,
    zeros,
)
from made.networks import SCALING, SmallNet, draw, seeded, small
from made.places import ROOT
from saliency_sanity import Classifier
from saliency_sanity._errors import NotApplicable
from saliency_sanity._hashing import (
    LATER,
    describe,
    named,
    source_digest,
    stable,
)
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.catalogue import resolve
from saliency_sanity.attribution.compose import Rectified, TimesInput
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.book.chapters.page import check_shown
from saliency_sanity.experiments import keys
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.outcome import cascades, halfway, stage_table
from saliency_sanity.experiments.store import Store
from saliency_sanity.randomization.blocks import Stage, spread
from saliency_sanity.randomization.schemes import Randomization
from saliency_sanity.similarity.metrics import METRICS, metric
from saliency_sanity.similarity.rank import PixelSpearman
from torch import nn

STAGES, SEEDS = 3, 3
FULL = 1 + STAGES * SEEDS


@pytest.fixture(scope="module")
def whole():
    """The outcome of a run without a store."""
    return made()()


def test_an_outcome_has_the_promised_shapes(whole, counting):
    outcome = made()()
    assert counting == {"gradient": FULL, "product": FULL}
    assert outcome.stages == ("head", "second", "first")
    for key in [(m, "spearman_abs") for m in METHODS]:
        assert outcome.matrices[key].shape == (STAGES, SEEDS, IMAGES, IMAGES)
        assert outcome.priors[key].shape == (SEEDS - 1, IMAGES, IMAGES)
    assert outcome.classes.shape == (STAGES, SEEDS, IMAGES)
    for pair in outcome.pictures.values():
        assert [part.shape for part in pair] == [(STAGES + 1, 2, 16, 16)] * 2
    assert same(outcome, whole)


def test_similarities_are_those_of_maps_made_by_hand(whole):
    """The same stages, with nothing but the randomizer."""
    from saliency_sanity.randomization.blocks import find_blocks, find_stages
    from saliency_sanity.randomization.schemes import Randomizer

    of = made()
    blocks = find_blocks(of.model, of.x)
    trained = Gradient()(of.model, of.x, of.target)
    last = {}
    with Randomizer(of.model, blocks, of.randomization) as randomizer:
        for s, stage in enumerate(find_stages(blocks, "top_down")):
            for r in range(SEEDS):
                randomizer.set(stage.blocks, r)
                classes = of.model.predict(of.x)
                assert np.array_equal(whole.classes[s, r], classes.numpy())
                last[r] = Gradient()(of.model, of.x, classes)
                expected = METRIC["spearman_abs"].matrix(trained, last[r])
                ours = whole.matrices["gradient", "spearman_abs"][s, r]
                np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)
    for r in range(SEEDS - 1):
        expected = METRIC["spearman_abs"].matrix(last[r], last[r + 1])
        ours = whole.priors["gradient", "spearman_abs"][r]
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("at", [1, 2, 3, 6, 9, 14, 20])
def test_a_run_that_was_interrupted_goes_on_where_it_was(tmp_path, whole, counting, at):
    of = made(store=Store(tmp_path))
    before = {key: value.clone() for key, value in of.model.state_dict().items()}
    Counted.fuse = at
    with pytest.raises(KeyboardInterrupt):
        of()
    now = of.model.state_dict()
    assert all(torch.equal(before[key], now[key]) for key in now)
    Counted.fuse = None
    counting.clear()
    assert same(of(), whole)
    # What was finished is not made again, but for the trained network's maps and those of the
    # last stages between whose networks the prior is still to be found.
    again = (at > 1) + (at > 2) + 2 * SEEDS
    assert sum(counting.values()) <= 2 * FULL - (at - 1) + again
    counting.clear()
    assert same(of(), whole)
    assert not counting


SCRIPT = """
import sys
import made.experiments as tests
from saliency_sanity.experiments.store import Store
tests.Counted.fuse, tests.Counted.fatal = int(sys.argv[2]), True
tests.made(store=Store(sys.argv[1]))()
"""


def test_a_run_that_was_killed_goes_on_in_another_process(tmp_path, whole, counting):
    search = os.pathsep.join(
        [str(Path(__file__).parent), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    )
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "store", "12"],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert same(made(store=Store(tmp_path / "store"))(), whole)
    # The maps of the trained network are made again, and those of the first wholly random one,
    # for its prior with the second.
    assert sum(counting.values()) == 2 * FULL - 11 + 2 + 2


def test_a_method_that_is_added_is_the_only_one_to_run(tmp_path, whole, counting):
    store = Store(tmp_path)
    made(store=store, methods={"gradient": METHODS["gradient"]})()
    counting.clear()
    assert same(made(store=store)(), whole)
    assert counting == {"product": FULL}


def test_more_networks_run_only_those(tmp_path, whole, counting):
    store = Store(tmp_path)
    made(store=store, seeds=2)()
    counting.clear()
    assert same(made(store=store)(), whole)
    # The new one's stages, the trained network's map, and the one before for the new prior.
    assert counting == {"gradient": 1 + STAGES + 1, "product": 1 + STAGES + 1}


def test_other_numbers_of_shown_images_do_not_meet(tmp_path, whole):
    store = Store(tmp_path)
    for shown in (2, 4, 0, 2):
        outcome = made(store=store, shown=shown)()
        assert all(pair[0].shape[1] == shown for pair in outcome.pictures.values())
    assert same(outcome, whole)


def test_orders_share_what_they_have_in_common(tmp_path, counting):
    store = Store(tmp_path)
    alone = made(order="independent")()
    made(store=store)()
    counting.clear()
    assert same(made(store=store, order="independent")(), alone)
    # The head alone and the whole network are stages of both.
    assert counting["gradient"] == 1 + (STAGES - 1) * SEEDS


class Silu(SmallNet):
    def forward(self, x):
        return self.head(self.second(self.relu(self.norm(self.first(x)))).tanh().mean((2, 3)))


def other_network(seed=0, kind=SmallNet, **options):
    network = seeded(kind(), seed).eval()
    return Classifier(network, name="small", weights="", scaling=SCALING, size=16, **options)


def half(a, b):
    return (a - b).flatten(1).abs().mean(1)


def build(seed):
    return seeded(SmallNet(), seed)


CHANGES = {
    "weights": {"model": other_network(1)},
    "architecture": {"model": other_network(kind=Silu)},
    "untrained": {"model": other_network(untrained=build)},
    "images": {"x": images() + 0.5},
    "classes": {"target": torch.zeros(IMAGES, dtype=torch.int64)},
    "scheme": {"randomization": Randomization("moments")},
    "batch norm": {"randomization": Randomization(batch_norm="recalibrate")},
    "explained": {"explained": "fixed"},
    "preset": {"metrics": {"spearman_abs": metric("spearman_abs", "paper")}},
    "own metric": {"metrics": {"half": half}},
    "seed": {"seed": 7},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_numbers_depend_on_is_in_the_key(tmp_path, counting, change):
    store = Store(tmp_path)
    start = {"model": other_network(), "store": store}
    first = made(**start)()
    counting.clear()
    changed = start | CHANGES[change]
    outcome = made(**changed)()
    assert counting == {"gradient": FULL, "product": FULL}
    assert same(outcome, made(**changed | {"store": None})())
    assert not same(outcome, first)
    counting.clear()
    assert same(made(**start)(), first)
    assert not counting


def test_code_of_the_library_is_in_the_key(tmp_path, counting, monkeypatch):
    store = Store(tmp_path)
    made(store=store)()
    counting.clear()
    monkeypatch.setattr(keys, "code", lambda: ["other"])
    made(store=store)()
    assert counting == {"gradient": FULL, "product": FULL}


def test_every_module_that_can_change_numbers_is_in_the_key(monkeypatch, tmp_path):
    monkeypatch.setattr(keys, "_LIBRARY", tmp_path)
    code = keys.code.__wrapped__  # which is asked once in a process
    later = ("probes/regions.py", "plots/style.py", "book/site/build.py")
    for place in ("_random.py", "attribution/base.py", *later):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("one = 1\n")
    before = code()
    for place in later:
        (tmp_path / place).write_text("one = 2\n")
        assert code() == before, place
    for place in ("_random.py", "attribution/base.py", "attribution/new.py", "new/one.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("one = 3\n")
        assert code() != before, place
        before = code()


def test_the_packages_that_no_key_counts_are_those_above_the_experiments():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    assert set(LATER) == set(layers[: layers.index("experiments")])


def test_what_a_later_package_defines_counts_by_its_own_file():
    assert source_digest(resolve("gradient")) == ""
    assert source_digest(check_shown) != ""


OWN = """
def method(model, x, target):
    return x * {}
"""


def own(tmp_path, monkeypatch, name, factor):
    (tmp_path / f"{name}.py").write_text(OWN.format(factor), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return resolve(f"{name}:method")


def test_the_digest_of_an_own_method_follows_its_file(tmp_path, monkeypatch):
    method = own(tmp_path, monkeypatch, "own_digest", 2)
    digests = [source_digest(method), source_digest(TimesInput(method))]
    assert all(digests)
    assert source_digest(method) == digests[0]
    (tmp_path / "own_digest.py").write_text(OWN.format(3), encoding="utf-8")
    assert source_digest(method) != digests[0]
    assert source_digest(TimesInput(method)) != digests[1]
    for library in (None, Gradient(), TimesInput(Gradient()), metric("ssim"), Gradient):
        assert source_digest(library) == ""
    assert describe(TimesInput(method)) == stable(describe(TimesInput(method)))


def times(factor):
    def scaled(_model, x, _target):
        return x * factor

    return scaled


def scaled(_model, x, _target, factor=1):
    return x * factor


@dataclass(frozen=True)
class Owned:
    factor: int

    def explain(self, model, x, target):
        return scaled(model, x, target, self.factor)


def test_functions_of_one_name_are_told_apart():
    twins = [
        (times(2), times(3)),
        (times(torch.zeros(2000)), times(torch.zeros(2000).index_fill(0, torch.tensor(999), 1))),
        (lambda m, x, t: x * 2, lambda m, x, t: x * 3),
        (functools.partial(scaled, factor=2), functools.partial(scaled, factor=3)),
        (Owned(2).explain, Owned(3).explain),
    ]
    for one, other in twins:
        assert named(one) != named(other)
        assert named(one) == named(one)
    assert named(times(2)) == named(times(2))


def test_what_has_no_name_of_its_own_is_refused(tmp_path):
    class Nameless:
        def __call__(self, model, x, target):
            return x

    with pytest.raises(ValueError, match="where in memory it lies"):
        source_digest(times(object()))
    for thing in (Nameless(), TimesInput(Nameless())):
        with pytest.raises(ValueError, match="where in memory it lies"):
            made(methods={"own": thing}, store=Store(tmp_path))()
        assert made(methods={"own": thing}, seeds=1)().matrices


def test_an_own_method_that_was_changed_runs_again(tmp_path, monkeypatch):
    method = own(tmp_path, monkeypatch, "own_again", 2)
    store = Store(tmp_path / "store")
    first = made(store=store, methods={"own": method})()
    (tmp_path / "own_again.py").write_text("# kind\n" + OWN.format("(target[0] - x)"))
    changed = importlib.reload(sys.modules["own_again"]).method
    outcome = made(store=store, methods={"own": changed})()
    assert same(outcome, made(methods={"own": changed})())
    assert not same(outcome, first)


def textures(count, size=48):
    """Smooth pictures of unlike shapes: noise of many scales."""
    coarse = draw(count, 3, 6, 6, seed=1)
    x = nn.functional.interpolate(coarse, size=size, mode="bicubic")
    return x + 0.3 * draw(count, 3, size, size, seed=2)


@pytest.mark.parametrize("order", ["top_down", "full"])
def test_known_controls_get_known_verdicts(order):
    metrics = {
        f"{name}, {preset}": metric(name, preset)
        for name, card in METRICS.items()
        for preset in card.presets
    }
    verdicts = {"noise": "responds", "input": "picture-driven", "sobel": "picture-driven"}
    outcome = made(
        x=textures(10), methods={name: resolve(name) for name in verdicts}, metrics=metrics,
        order=order, shown=0,
    )()  # fmt: skip
    readings = outcome.readings()
    told = 0
    for (method, key, _), reading in readings.items():
        if 1 - reading.chance < 0.1:
            continue
        told += 1
        assert reading.words().startswith(verdicts[method]), (method, key, reading)
    assert told > len(readings) / 2
    assert len(readings) == 3 * len(metrics) * len(outcome.stages)


def test_maps_of_the_picture_alone_are_unchanged_and_have_that_for_a_prior():
    outcome = made(methods={"input": resolve("input")})()
    diagonal = np.diagonal(outcome.matrices["input", "spearman_abs"], axis1=2, axis2=3)
    np.testing.assert_allclose(diagonal, 1, rtol=1e-12)
    for prior in outcome.priors["input", "spearman_abs"]:
        np.testing.assert_allclose(prior.diagonal(), 1, rtol=1e-12)


def test_the_explained_class_is_the_networks_own_or_the_given_one(whole):
    fixed = made(explained="fixed")()
    key = "gradient", "spearman_abs"
    assert np.array_equal(fixed.classes, whole.classes)
    agree = whole.classes == made().target.numpy()
    assert agree.any()
    assert not agree.all()
    for s, r, image in np.ndindex(agree.shape):
        ours, theirs = fixed.matrices[key][s, r, :, image], whole.matrices[key][s, r, :, image]
        assert np.allclose(ours, theirs, rtol=1e-6) == agree[s, r, image], (s, r, image)


@dataclass(frozen=True)
class Holed:
    """The gradient, undefined in a corner of the first image."""

    def __call__(self, model, x, target):
        found = Gradient()(model, x, target)
        found[0, :, :2, :2] = torch.nan
        return found


def test_pictures_are_kept_in_steps_of_eight_bits_and_undefined_ones_are_nan():
    for shown in (2, IMAGES):
        outcome = made(methods={"holed": Holed(), "gradient": Gradient()}, shown=shown)()
        for name, (absolute, signed) in outcome.pictures.items():
            assert absolute.dtype == signed.dtype == np.float32
            assert absolute.shape == signed.shape == (STAGES + 1, shown, 16, 16)
            hole = np.zeros_like(absolute, dtype=bool)
            if name == "holed":
                hole[:, 0] = True
            for part, low in ((absolute, 0), (signed, -1)):
                assert np.array_equal(np.isnan(part), hole)
                seen = part[~hole]
                assert low <= seen.min() <= low + 0.5
                assert seen.max() == 1
                np.testing.assert_allclose(seen * 127, np.round(seen * 127), atol=1e-4)


def test_pictures_are_those_of_the_maps(whole):
    from saliency_sanity.similarity.prepare import absolute_picture, signed_picture

    of = made()
    found = Gradient()(of.model, of.x, of.target)[:2]
    absolute, signed = whole.pictures["gradient"]
    assert np.abs(absolute[0] - absolute_picture(found).numpy()).max() <= 0.5 / 127 + 1e-6
    assert np.abs(signed[0] - signed_picture(found).numpy()).max() <= 0.5 / 127 + 1e-6
    assert not np.array_equal(absolute[0], absolute[1])
    assert made(shown=0, seeds=1)().pictures == {}


def test_methods_that_do_not_apply_are_listed_with_the_reason(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    methods = {"guided": Rectified(Gradient(), Guided()), "gradient": Gradient()}
    for _ in range(2):
        outcome = made(model=seeded(network), methods=methods, store=Store(tmp_path), seeds=2)()
        assert list(outcome.refused) == ["guided"]
        assert "needs rectifiers" in outcome.refused["guided"]
        assert {method for method, _ in outcome.matrices} == {"gradient"}
        assert list(outcome.pictures) == ["gradient"]
    del methods["gradient"]
    with pytest.raises(NotApplicable, match=r"none of the methods applies.*guided"):
        made(model=network, methods=methods)()


def test_one_network_has_no_prior():
    outcome = made(seeds=1)()
    for prior in outcome.priors.values():
        assert prior.shape == (0, IMAGES, IMAGES)
    for reading in outcome.readings().values():
        assert np.isnan(reading.prior_kappa)
        assert reading.prior_seeds == 0


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent", "full"])
@pytest.mark.parametrize("policy", ["keep", "reset", "recalibrate"])
def test_every_order_and_policy_ends_with_the_whole_network(order, policy):
    of = made(order=order, randomization=Randomization("moments", policy), seeds=2, shown=0)
    outcome = of()
    whole = dataclasses.replace(of, order="full")()
    for key, matrices in outcome.matrices.items():
        assert np.array_equal(matrices[-1], whole.matrices[key][0])
        assert np.array_equal(outcome.priors[key], whole.priors[key])


def test_results_do_not_depend_on_which_networks_are_drawn_with_them(whole):
    later = made(seed=1, seeds=2)()
    for key, matrices in later.matrices.items():
        assert np.array_equal(matrices, whole.matrices[key][:, 1:])
        assert np.array_equal(later.priors[key], whole.priors[key][1:])


def test_own_similarities_and_those_of_some_pixels_are_compared_too():
    x = images() * (images(IMAGES + 6)[6:] > 0)
    metrics = {"half": half, "pixels": PixelSpearman((x != 0).any(1), signed=True)}
    outcome = made(x=x, metrics=metrics, methods={"gradient": Gradient()})()
    for key in metrics:
        assert np.isfinite(outcome.matrices["gradient", key]).all()
        assert outcome.priors["gradient", key].shape == (2, IMAGES, IMAGES)


def test_tables_have_a_row_for_everything(whole):
    readings = whole.readings(titles={"product": "Product"})
    table = stage_table(readings)
    assert len(table) == 2 * STAGES
    assert set(table["method"]) == {"gradient", "Product"}
    for _, rows in table.groupby("method"):
        assert rows["stage"].tolist() == list(whole.stages)
        assert rows["position"].tolist() == [0, 1, 2]
    assert cascades(readings)[["method", "metric"]].to_numpy().tolist() == [
        ["gradient", "spearman_abs"],
        ["Product", "spearman_abs"],
    ]
    rows = whole.measurements()
    assert len(rows) == 2 * STAGES * SEEDS * IMAGES
    for row in rows.sample(20, random_state=0).itertuples():
        square = whole.matrices[row.method, row.metric][row.position, row.seed]
        assert row.stage == whole.stages[row.position]
        assert row.similarity == square[row.image, row.image]
        others = np.delete(square[row.image], row.image).mean()
        assert row.chance == pytest.approx(others, rel=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 17])
def test_stages_are_spread_with_both_ends(count):
    stages = tuple(Stage(str(i), (str(i),)) for i in range(count))
    assert spread(stages, 0) == stages
    for limit in range(2, count + 3):
        chosen = spread(stages, limit)
        places = [stages.index(stage) for stage in chosen]
        assert len(set(places)) == len(places) == min(limit, count)
        assert places == sorted(places)
        assert (places[0], places[-1]) == (0, count - 1)
        # The last with at most half of the blocks random, and even steps on both sides of it.
        middle = max([0, *(place for place in range(count) if 2 * (place + 1) <= count)])
        assert limit == 2 or middle in places
        upper = places if limit == 2 else [place for place in places if place <= middle]
        for part in (upper, places[len(upper) - 1 :]):
            steps = np.diff(part)
            assert not len(steps) or steps.max() - steps.min() <= 1


def test_a_stage_limit_leaves_stages_out(whole):
    outcome = made(stage_limit=2)()
    assert outcome.stages == ("head", "first")
    for key, matrices in outcome.matrices.items():
        assert np.array_equal(matrices, whole.matrices[key][[0, 2]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"explained": "label"}, "explained class 'label'"),
        ({"seeds": 0}, "0 random networks; at least 1"),
        ({"stage_limit": 1}, "stage limit 1; 0 for all, or at least 2"),
        ({"stage_limit": -1}, "stage limit -1"),
        ({"shown": 7}, "7 images shown; valid are 0 to 6"),
        ({"shown": -1}, "-1 images shown; valid are 0 to 6"),
        ({"methods": {}}, "at least one method and one metric"),
        ({"metrics": {}}, "at least one method and one metric"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        made(**change)


def test_another_order_is_refused():
    with pytest.raises(ValueError, match="order 'down'"):
        made(order="down")()


def test_statistics_are_those_of_the_maps(tmp_path, counting):
    statistics = {"largest": lambda maps: maps.flatten(1).amax(1), "zeros": zeros}
    plain = {"zeros": zeros}
    experiment = made(statistics=statistics, seeds=2)
    outcome = experiment()
    stages = len(outcome.stages)
    found = outcome.statistics["gradient", "largest"]
    assert found.shape == (stages + 1, 2, IMAGES)
    own = Gradient()(experiment.model, experiment.x, experiment.target).flatten(1).amax(1)
    np.testing.assert_allclose(found[0], np.stack([own.double()] * 2), rtol=1e-6)
    assert not np.allclose(found[-1, 0], found[-1, 1])
    # They are kept with the maps, and maps that were kept without them are made again.
    store = Store(tmp_path)
    made(store=store)()
    kept = made(store=store, statistics=plain)()
    counting.clear()
    again = made(store=store, statistics=plain)()
    assert not counting
    for key, values in kept.statistics.items():
        assert np.array_equal(again.statistics[key], values)


@dataclass(frozen=True)
class OnlyTheTrained:
    """A method that random weights of the head alone do not stop, those of more do."""

    def __call__(self, model, x, target):
        if model.network.second.weight.abs().sum() == 0:
            raise NotApplicable("it needs weights in the second layer")
        return Gradient()(model, x, target)


def test_a_method_that_ceases_to_apply_is_left_out_and_the_others_go_on(monkeypatch):
    model, x, target = small(), draw(3, 3, 16, 16), torch.tensor([0, 1, 2])
    draw_all = Randomization.draw

    def zeros(self, *given):
        drawn = draw_all(self, *given)
        return drawn | {"second.weight": torch.zeros_like(drawn["second.weight"])}

    monkeypatch.setattr(Randomization, "draw", zeros)
    given = {
        "order": "top_down",
        "randomization": Randomization("moments"),
        "seeds": 2,
    }
    methods = {"gradient": Gradient(), "picky": OnlyTheTrained()}
    measures = {"rank": metric("spearman_abs")}
    outcome = Experiment(model, x, target, methods, measures, **given)()
    assert outcome.refused == {"picky": "at stage second: it needs weights in the second layer"}
    assert set(outcome.matrices) == {("gradient", "rank")}
    with pytest.raises(NotApplicable, match=r"none of the methods .* picky: at stage second"):
        Experiment(model, x, target, {"picky": OnlyTheTrained()}, measures, **given)()


@pytest.mark.parametrize("count", range(1, 25))
def test_the_stage_halfway_is_found_whatever_the_limit(count):
    """Half of the blocks, rounded down; a limit of two leaves it out unless it is the first."""
    stages = tuple(Stage(str(i), ("",) * (i + 1)) for i in range(count))
    for limit in range(count + 2):
        if limit == 1:
            continue
        shares = [len(stage.blocks) / count for stage in spread(stages, limit)]
        table = pd.DataFrame({"random": shares, "position": range(len(shares))})
        found = halfway(table.assign(stage=table["position"]))
        there = count > 1 and (limit != 2 or count < 4)
        assert (found is not None) == there
        assert found is None or shares[found] * count == pytest.approx(count // 2)


def test_stages_that_are_asked_for_are_measured_as_among_all():
    whole = made(seeds=2)()
    first, *between, last = whole.stages
    few = made(seeds=2, only=(between[-1],))()
    assert few.stages == (between[-1], last)
    at = [whole.stages.index(stage) for stage in few.stages]
    for pair, matrix in few.matrices.items():
        np.testing.assert_array_equal(matrix, whole.matrices[pair][at])
        np.testing.assert_array_equal(few.priors[pair], whole.priors[pair])
    with pytest.raises(ValueError, match=f"unknown stage 'fifth'.*{first}"):
        made(only=("fifth",))()
