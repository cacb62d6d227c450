"""Pictures shared by several jobs: what is gathered is what one job finds, to the last bit."""

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made.experiments import METHODS, Counted, made, same, zeros
from made.networks import draw, small
from made.places import ROOT
from safetensors.numpy import load_file
from saliency_sanity import load_model, resolve
from saliency_sanity._errors import InputError, NotApplicable
from saliency_sanity.experiments import cascade
from saliency_sanity.experiments.cascade import Experiment, share
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.experiments.shard import Shard
from saliency_sanity.experiments.store import Store, UnusableResult
from saliency_sanity.randomization.schemes import Randomization
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.similarity.rank import PixelSpearman
from torch import nn

IMAGES, GROUP, SHARDS = 7, 2, 3
GROUPS, STAGES, SEEDS = 4, 3, 2
UNITS = 1 + STAGES * SEEDS
NAMES = ["smoothgrad", "grad_cam", "guided_backprop", "rectgrad"]
RESULTS = GROUPS * (len(NAMES) * (UNITS + SEEDS - 1) + STAGES * SEEDS)


def several(store=None, **changes):
    """An experiment on a small network, with methods that count their calls."""
    model = changes.pop("model", small())
    x = draw(IMAGES, len(model.scaling.mean), model.size, model.size, seed=5)
    options = {"smoothgrad": {"samples": 3}}
    methods = {name: Counted(resolve(name, **options.get(name, {})), name) for name in NAMES}
    settings = {
        "methods": methods,
        "metrics": {name: metric(name) for name in ("spearman_abs", "ssim")},
        "seeds": SEEDS,
        "stage_limit": STAGES,
        "shown": 3,
        "group": GROUP,
        "statistics": {"zeros": zeros},
        "ceiling": 0,  # maps made again would count as calls
    }
    return Experiment(model, x, torch.arange(len(x)) % 5, store=store, **settings | changes)


def alike(one, other):
    """Whether outcomes are equal bit for bit, statistics too."""
    keys = one.statistics.keys() | other.statistics.keys()
    return same(one, other) and all(
        one.statistics[key].tobytes() == other.statistics[key].tobytes() for key in keys
    )


def files(store):
    return sorted(store.folder.glob("*/*.safetensors"))


@pytest.fixture(scope="module")
def expected():
    """What one job finds without a store."""
    return several()()


@pytest.mark.parametrize("explained", ["argmax", "fixed"])
def test_what_is_gathered_is_what_one_job_finds(tmp_path, counting, explained):
    cnn = explained == "fixed"
    model = load_model("cnn", "none", device="cpu") if cnn else small()
    changes = {"model": model, "explained": explained}
    expected = several(**changes)()
    counting.clear()
    of = several(Store(tmp_path), **changes)
    shares = [share(of, f"{number}/{SHARDS}") for number in range(1, SHARDS + 1)]
    assert [one.own for one in shares] == [2, 1, 1]
    assert [one.images for one in shares] == [3, 2, 2]
    # Results of the trained network, of each stage and of pairs, and the classes of each stage.
    assert sum(one.made for one in shares) == RESULTS
    assert counting == dict.fromkeys(NAMES, UNITS * GROUPS)
    assert "2 of 4 groups, 3 pictures" in str(shares[0])
    before = files(of.store)
    counting.clear()
    assert alike(of(), expected)
    assert share(of, f"1/{SHARDS}").made == 0
    assert not counting, "nothing is made twice"
    assert files(of.store) == before
    assert len(before) == RESULTS
    largest = max(array.nbytes for path in before for array in load_file(path).values())
    assert largest < of.x[:1].nbytes * 3, "no map is kept, but pictures that are shown"


def test_a_group_has_the_similarities_of_all_pictures_up_to_rounding(expected):
    other = several(group=0)()
    for key, whole in other.matrices.items():
        # Neither ranks nor thresholds are continuous.
        if "ssim" in key and "rectgrad" not in key:
            found = expected.matrices[key]
            assert found.shape == (STAGES, SEEDS, IMAGES, GROUP)
            for i, j in itertools.product(range(IMAGES), range(GROUP)):
                partner = i - i % GROUP + j
                same_pair = found[..., i, j], whole[..., i, min(partner, IMAGES - 1)]
                if partner < IMAGES:
                    np.testing.assert_allclose(*same_pair, rtol=1e-4, atol=1e-4)
                else:
                    assert np.isnan(found[..., i, j]).all()


def test_up_to_a_group_of_pictures_nothing_is_divided(tmp_path):
    whole = several(group=0)()
    for group in (IMAGES, 32):
        assert alike(several(group=group)(), whole)
    store = Store(tmp_path)
    several(store, group=32)()
    before = files(store)
    several(store, group=0)()
    assert files(store) == before


def test_more_pictures_are_added_to_those_that_are_measured(tmp_path, counting):
    of = several(Store(tmp_path), seeds=1, shown=1)
    replace(of, x=of.x[:4], target=of.target[:4])()
    counting.clear()
    longer = of()
    assert counting == dict.fromkeys(NAMES, (1 + STAGES) * 2)
    assert alike(longer, replace(of, store=None)())


@pytest.mark.parametrize("pictures", [1, 4, 100])
def test_how_many_groups_are_worked_off_together_changes_nothing(expected, monkeypatch, pictures):
    monkeypatch.setattr(cascade, "_PICTURES", pictures)
    assert alike(several()(), expected)


def test_what_knows_of_each_picture_is_asked_of_its_group():
    where = torch.zeros(IMAGES, 16, 16, dtype=torch.bool)
    for i in range(IMAGES):
        where[i, : 4 + i] = True
    changes = {"methods": {"gradient": resolve("gradient")}, "stage_limit": 0, "order": "full"}
    metrics = {"pixels": PixelSpearman(where, signed=True)}
    parts, whole = (several(metrics=metrics, group=g, **changes)() for g in (2, 0))
    found, all_pairs = (one.matrices["gradient", "pixels"] for one in (parts, whole))
    for i in range(IMAGES):
        np.testing.assert_allclose(found[..., i, i % 2], all_pairs[..., i, i], rtol=1e-4)


@pytest.mark.parametrize("count", [1, 6])
def test_any_number_of_jobs_will_do_in_any_order(tmp_path, expected, counting, count):
    of = several(Store(tmp_path))
    shares = [share(of, f"{number}/{count}") for number in range(count, 0, -1)]
    assert sum(one.images for one in shares) == IMAGES
    for one in shares:
        assert ("has nothing to do; groups there are 4" in str(one)) == (one.shard.number > GROUPS)
    counting.clear()
    assert alike(of(), expected)
    assert not counting


def test_what_no_share_has_made_is_made_when_it_is_gathered(tmp_path, expected, counting):
    of = several(Store(tmp_path))
    share(of, "1/2")
    counting.clear()
    assert alike(of(), expected)
    assert counting == dict.fromkeys(NAMES, UNITS * GROUPS // 2)


@pytest.mark.parametrize("offset", [0, 1])
def test_what_was_lost_or_damaged_is_made_again(tmp_path, expected, offset):
    of = several(Store(tmp_path))
    for number in (1, 2, 3):
        share(of, Shard(number, SHARDS))
    for path in files(of.store)[offset::3]:
        path.unlink()
    for path in files(of.store)[:5]:
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(UnusableResult, match="cut short or altered"):
        assert alike(of(), expected)


@pytest.mark.parametrize("at", [1, 20, 50])
def test_a_share_that_was_interrupted_goes_on_where_it_was(tmp_path, expected, counting, at):
    of = several(Store(tmp_path))
    before = {key: value.clone() for key, value in of.model.state_dict().items()}
    Counted.fuse = at
    with pytest.raises(KeyboardInterrupt):
        share(of, "1/2")
    assert all(torch.equal(value, before[key]) for key, value in of.model.state_dict().items())
    Counted.fuse = None
    counting.clear()
    share(of, "1/2")
    # What is in the store is not made again. The maps that it was compared with are, and those of
    # wholly random networks of which there is no prior yet.
    originals = networks = len(NAMES) * GROUPS // 2
    stored = max(at - 1 - originals, 0)
    left = len(NAMES) * UNITS * GROUPS // 2 - stored
    assert left <= sum(counting.values()) <= left + networks * (at == 50)
    share(of, "2/2")
    counting.clear()
    assert alike(of(), expected)
    assert not counting


SCRIPT = """
import sys
import test_shards as tests
from saliency_sanity.experiments.store import Store
tests.Counted.fuse, tests.Counted.fatal = int(sys.argv[3]), True
experiment = tests.several(Store(sys.argv[1]))
tests.share(experiment, sys.argv[2])
"""


def killed(store, shard, at):
    search = os.pathsep.join(
        [str(Path(__file__).parent), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    )
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, store, shard, str(at)],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def test_jobs_that_were_killed_leave_what_they_had_made(tmp_path, expected, counting):
    of = several(Store(tmp_path))
    killed(tmp_path, "1/2", 20)
    assert share(of, "1/2").made < RESULTS // 2
    Counted.fuse = 20  # while it makes itself what the other share has not
    counting.clear()
    with pytest.raises(KeyboardInterrupt):
        of()
    Counted.fuse = None
    counting.clear()
    assert alike(of(), expected)
    assert counting["rectgrad"] < UNITS * GROUPS // 2
    assert not list(tmp_path.glob("*/*.tmp"))


def test_shares_are_of_one_experiment_and_one_group(tmp_path, expected, counting):
    store = Store(tmp_path)
    for change in ({"group": 4}, {"group": 0}, {"explained": "fixed"}):
        several(store, **change)()
    for name in ("ssim", "spearman_signed"):
        share(several(store, metrics={name: metric(name)}), "1/2")
    counting.clear()
    of = several(store)
    assert alike(of(), expected)
    assert counting == dict.fromkeys(NAMES, UNITS * GROUPS)


def test_what_is_trained_runs_once_for_each_group():
    """Groups are slices of the pictures whose passes are kept, so each starts in the middle."""
    calls = []
    for group in (2, 3):  # 4 groups and 3
        of = several(group=group, methods={"gradient": resolve("gradient")}, statistics={})
        first = of.model.network.first
        calls.append(0)

        def counted(x, forward=first.forward):
            calls[-1] += 1
            return forward(x)

        first.forward = counted
        of()
    # For each network once while it is trained; where it is random, once for the classes and the
    # gradient.
    assert calls[0] - calls[1] == SEEDS * (1 + 1)


@pytest.mark.parametrize("policy", ["reset", "recalibrate"])
def test_batch_norms_take_all_pictures_whoever_makes_the_maps(tmp_path, policy):
    changes = {"group": 2, "randomization": Randomization("moments", policy)}
    of = made(store=Store(tmp_path), **changes)
    share(of, "2/2")
    assert same(of(), made(**changes)())


def test_other_orders_find_what_they_have_in_common(tmp_path, counting):
    of = several(Store(tmp_path))
    whole = replace(of, order="full", stage_limit=0)
    expected = replace(whole, store=None)()
    share(of, "1/1")
    counting.clear()
    assert alike(whole(), expected)
    assert not counting


def test_maps_of_the_trained_network_are_not_mixed_up_with_those_of_another_group():
    originals = {}
    made(originals=originals)()
    made(originals=originals, group=2)()
    assert len(originals) == (1 + 3) * len(METHODS)


@pytest.mark.parametrize("group", [0, GROUP])
def test_maps_at_hand_are_not_made_again(counting, group):
    of = several(group=group)
    explained = explain(of.methods, of.model, of.x, of.target)
    counting.clear()
    expected = of()
    every = sum(counting.values())
    counting.clear()
    found = of.having(explained.maps)()
    assert every - sum(counting.values()) == len(NAMES) * (GROUPS if group else 1)
    for key, values in expected.matrices.items():
        assert found.matrices[key] == pytest.approx(values, abs=1e-4, nan_ok=True)


def test_methods_that_do_not_apply_are_left_out_of_shares_too(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    methods = {name: resolve(name) for name in ("guided_backprop", "gradient")}
    of = made(model=network, methods=methods, store=Store(tmp_path), group=2, seeds=1)
    for number in (1, 2):
        share(of, Shard(number, 2))
    outcome = of()
    assert list(outcome.refused) == ["guided_backprop"]
    assert same(outcome, replace(of, store=None)())
    del methods["gradient"]
    with pytest.raises(NotApplicable, match=r"none of the methods applies.*guided"):
        share(of, "1/2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5/4", "shard '5/4' does not exist; valid are 1/4 to 4/4"),
        ("0/4", "shard '0/4' does not exist; valid are 1/4 to 4/4"),
        ("1/0", "shard '1/0' does not exist; valid are 1/1 and up"),
        ("2", "shard '2' is none; write NUMBER/COUNT, as in '2/8'"),
        ("-1/4", "shard '-1/4' is none"),
        ("1/4/2", "shard '1/4/2' is none"),
    ],
)
def test_a_shard_that_does_not_exist_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        share(made(store=Store(tmp_path), group=2), text)


def test_what_cannot_be_shared_or_grouped_is_refused():
    with pytest.raises(ValueError, match=r"shards need a store .*Experiment\(store=Store"):
        share(made(group=2), "1/2")
    for group in (-1, 1):
        with pytest.raises(ValueError, match=f"group {group}; .* give at least 2, as 32, or 0"):
            made(group=group)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20])
def test_every_item_is_of_one_shard(count):
    items = list(range(11))
    parts = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert sorted(itertools.chain(*parts)) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [str(shard) for shard in Shard.all(count)] == [
        f"{number}/{count}" for number in range(1, count + 1) if count > 1
    ]
