"""Pictures shared by several jobs: what is gathered is what one job finds, to the last bit."""

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made.experiments import METHODS, Counted, arrays, made, same, zeros
from made.networks import draw, small
from made.places import ROOT
from saliency_sanity import load_model, resolve
from saliency_sanity._errors import InputError, NotApplicable
from saliency_sanity.experiments.cascade import Experiment, share
from saliency_sanity.experiments.shard import Shard
from saliency_sanity.experiments.store import Store, UnusableResult
from saliency_sanity.randomization.schemes import Randomization
from saliency_sanity.similarity.metrics import metric
from torch import nn

IMAGES, BLOCK, SHARDS = 7, 2, 3
BLOCKS, STAGES, SEEDS = 4, 3, 2
UNITS = 1 + STAGES * SEEDS
NAMES = ["smoothgrad", "grad_cam", "guided_backprop", "rectgrad"]


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
        "block": BLOCK,
        "statistics": {"zeros": zeros},
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
    # Maps of the trained network and of each stage, and the classes of each stage.
    assert sum(one.made for one in shares) == BLOCKS * (len(NAMES) * UNITS + UNITS - 1)
    assert counting == dict.fromkeys(NAMES, UNITS * BLOCKS)
    assert "2 of 4 blocks, 3 pictures" in str(shares[0])
    counting.clear()
    assert alike(of(), expected)
    assert not counting, "nothing is made twice"
    # Maps are gone; matrices, what is shown, priors and classes stay.
    assert len(files(of.store)) == len(NAMES) * (UNITS + SEEDS - 1) + STAGES * SEEDS
    assert alike(of(), expected)
    assert share(of, f"1/{SHARDS}").made == 0
    assert len(files(of.store)) == len(NAMES) * (UNITS + SEEDS - 1) + STAGES * SEEDS
    assert not counting


def test_maps_of_one_block_are_those_of_all_pictures_up_to_rounding(expected):
    other = arrays(several(block=0)())
    for key, values in arrays(expected).items():
        # Neither ranks nor thresholds are continuous.
        if "ssim" in key and "rectgrad" not in key:
            assert values == pytest.approx(other[key], rel=1e-4, abs=1e-4), key


@pytest.mark.parametrize("count", [1, 6])
def test_any_number_of_jobs_will_do_in_any_order(tmp_path, expected, counting, count):
    of = several(Store(tmp_path))
    shares = [share(of, f"{number}/{count}") for number in range(count, 0, -1)]
    assert sum(one.images for one in shares) == IMAGES
    for one in shares:
        assert ("has nothing to do; blocks there are 4" in str(one)) == (one.shard.number > BLOCKS)
    counting.clear()
    assert alike(of(), expected)
    assert not counting


def test_what_no_share_has_made_is_made_when_it_is_gathered(tmp_path, expected, counting):
    of = several(Store(tmp_path))
    share(of, "1/2")
    counting.clear()
    assert alike(of(), expected)
    assert counting == dict.fromkeys(NAMES, UNITS * BLOCKS // 2)


@pytest.mark.parametrize("offset", [0, 1])
def test_what_was_lost_or_damaged_is_made_again(tmp_path, expected, offset):
    of = several(Store(tmp_path))
    for number in (1, 2, 3):
        share(of, Shard(number, SHARDS))
    for path in files(of.store)[offset::3]:
        path.unlink()
    first, *_ = files(of.store)
    first.write_bytes(first.read_bytes()[:-3])
    with pytest.warns(UnusableResult, match="cut short or altered"):
        assert alike(of(), expected)


@pytest.mark.parametrize("at", [1, 3, 50])
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
    assert sum(counting.values()) == len(NAMES) * UNITS * BLOCKS // 2 - (at - 1)
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
    assert share(of, "1/2").made < BLOCKS // 2 * (len(NAMES) * UNITS + UNITS - 1)
    Counted.fuse = 20  # while it makes itself what the other share has not
    counting.clear()
    with pytest.raises(KeyboardInterrupt):
        of()
    Counted.fuse = None
    counting.clear()
    assert alike(of(), expected)
    assert counting["rectgrad"] < UNITS * BLOCKS // 2
    assert not list(tmp_path.glob("*/*.tmp"))


def test_a_gathering_that_was_cut_off_has_dropped_nothing_that_is_needed(
    tmp_path, expected, counting, monkeypatch
):
    of = several(Store(tmp_path))
    for number in (1, 2):
        share(of, Shard(number, 2))
    counting.clear()

    def cut_off(action, last):
        calls, plain = itertools.count(), getattr(Store, action)

        def until(*arguments):
            if next(calls) == last:
                raise KeyboardInterrupt
            return plain(*arguments)

        monkeypatch.setattr(Store, action, until)
        with pytest.raises(KeyboardInterrupt):
            of()
        monkeypatch.undo()

    results = len(NAMES) * (UNITS + SEEDS - 1) + STAGES * SEEDS
    parts = set(files(of.store))
    for last in (results // 3, results // 4):  # in the middle of storing
        cut_off("put", last)
        assert parts < set(files(of.store))
    cut_off("drop", len(parts) // 2)  # in the middle of dropping
    assert len(set(files(of.store)) - parts) == results
    assert len(parts & set(files(of.store))) == len(parts) - len(parts) // 2
    assert alike(of(), expected)
    assert len(files(of.store)) == results
    assert not counting


def test_shares_are_of_one_experiment_and_one_block(tmp_path, expected, counting):
    """Maps of another block may differ in their last bits; others' shares come and go."""
    store = Store(tmp_path)
    for change in ({"block": 3}, {"block": 0}, {"explained": "fixed"}):
        several(store, **change)()
    for name in ("ssim", "hog"):
        share(several(store, metrics={name: metric(name)}), "1/2")
    counting.clear()
    of = several(store)
    assert alike(of(), expected)
    assert counting == dict.fromkeys(NAMES, UNITS * BLOCKS)


def test_what_is_trained_runs_once_for_each_block():
    """Blocks are slices of the pictures whose passes are kept, so each starts in the middle."""
    calls = []
    for block in (2, 3):  # 4 blocks and 3
        of = several(block=block, methods={"gradient": resolve("gradient")}, statistics={})
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
    changes = {"block": 2, "randomization": Randomization("moments", policy)}
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


def test_maps_of_the_trained_network_are_not_mixed_up_with_those_of_another_block():
    originals = {}
    made(originals=originals)()
    made(originals=originals, block=2)()
    assert len(originals) == 2 * len(METHODS)


def test_methods_that_do_not_apply_are_left_out_of_shares_too(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    methods = {name: resolve(name) for name in ("guided_backprop", "gradient")}
    of = made(model=network, methods=methods, store=Store(tmp_path), block=2, seeds=1)
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
        share(made(store=Store(tmp_path), block=2), text)


def test_without_a_store_or_blocks_there_is_nothing_to_share(tmp_path):
    with pytest.raises(ValueError, match=r"shards need a store .*Experiment\(store=Store"):
        share(made(block=2), "1/2")
    with pytest.raises(ValueError, match=r"block is 0, all of them together; set it to 1 or more"):
        share(made(store=Store(tmp_path)), "1/2")
    with pytest.raises(ValueError, match="block -1; 0 for all pictures together, or at least 1"):
        made(block=-1)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20])
def test_every_item_is_of_one_shard(count):
    items = list(range(11))
    parts = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert sorted(itertools.chain(*parts)) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [str(shard) for shard in Shard.all(count)] == [
        f"{number}/{count}" for number in range(1, count + 1) if count > 1
    ]
