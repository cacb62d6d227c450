"""Competition over labels against its definition, and what can be proved of it."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from made.memory import LiveTensors
from made.networks import draw, relative, seeded, small
from made.places import ROOT
from made.states import FaultError, assert_unchanged, state, unsettle
from saliency_sanity import chunk_limit
from saliency_sanity.attribution import competition, per_label
from saliency_sanity.attribution.base import Attribution, Gradient, passes
from saliency_sanity.attribution.competition import Compete
from saliency_sanity.attribution.compose import (
    NoiseAverage,
    PathAverage,
    Rectified,
    TimesInput,
)
from saliency_sanity.attribution.controls import Noise
from saliency_sanity.attribution.named import cgi, competitive_ig
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.experiments.replay import replaying
from saliency_sanity.experiments.store import Store
from saliency_sanity.randomization.blocks import find_blocks
from torch import nn

X = draw(4, 2, 8, 8)
TARGET = torch.tensor([3, 0, 9, 3])


def convolutional(classes=10, *, bias=True, dtype=torch.float32):
    """A ReLU network with maximum and average pooling."""
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=bias),
        *(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, bias=bias), nn.ReLU(inplace=True)),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, classes, bias=bias)),
    )
    return seeded(network).to(dtype).eval()


TEN = convolutional()


def definition(method, model, x, target, *, labels=None, per_channel=True):
    """Every label's map first, then the rule as it is written."""
    with torch.no_grad():
        classes = model(x).shape[1]
    maps = torch.stack(
        [method(model, x, torch.full_like(target, label)) for label in labels or range(classes)]
    )
    own = method(model, x, target)
    judged, score = (maps, own) if per_channel else (maps.sum(2, keepdim=True), own.sum(1)[:, None])
    stays = (score > 0) & (score >= judged).all(0) | (score < 0) & (score <= judged).all(0)
    return torch.where(stays, own, torch.zeros_like(own))


METHODS = {
    "gradient": Gradient(),
    "gradient times input": TimesInput(Gradient()),
    "integrated gradients": TimesInput(PathAverage(Gradient(), steps=4)),
    "smoothgrad": NoiseAverage(Gradient(), samples=3),
    "guided": Rectified(Gradient(), Guided()),
    "no passes": Noise(0, per_label=True),
    "own": lambda model, x, target: Gradient()(model, x, target).sum(1, keepdim=True),
}
every_method = pytest.mark.parametrize("name", METHODS)


# The definition


@every_method
@pytest.mark.parametrize("per_channel", [True, False])
def test_is_the_plain_loop_over_labels_to_the_last_bit(name, per_channel):
    method = METHODS[name]
    found = Compete(method, per_channel=per_channel)(TEN, X, TARGET)
    expected = definition(method, TEN, X, TARGET, per_channel=per_channel)
    assert torch.equal(found, expected)
    assert 0 < (found != 0).float().mean() < 0.6


@pytest.mark.parametrize("per_channel", [True, False])
def test_is_the_plain_loop_over_a_thousand_labels(per_channel):
    model = convolutional(1000, dtype=torch.float64)
    x = X.double()
    # Labels with large logits have large gradients: of most others not one pixel stays.
    target = model(x).detach().argmax(1)
    method = TimesInput(Gradient())
    found = Compete(method, per_channel=per_channel)(model, x, target)
    expected = definition(method, model, x, target, per_channel=per_channel)
    assert relative(found, expected) < 1e-6
    assert torch.equal(found != 0, expected != 0)


def stacked(*maps):
    """A method whose map of label l is the l-th value everywhere."""

    def method(model, x, target):
        return torch.tensor(maps)[target].view(-1, 1, 1, 1).expand_as(x).clone()

    return method


@pytest.mark.parametrize(
    ("maps", "target", "kept"),
    [
        ((2.0, 1.0, -3.0), 0, True),
        ((2.0, 1.0, -3.0), 1, False),
        ((2.0, 1.0, -3.0), 2, True),
        ((2.0, 2.0, -3.0), 1, True),  # ties stay
        ((-3.0, 2.0, -3.0), 0, True),
        ((1.0, 1.0, 1.0), 0, True),
        ((-1.0, -2.0, -3.0), 0, False),  # the largest, but against its label
        ((3.0, 2.0, 1.0), 2, False),  # the smallest, but for its label
        ((0.0, -1.0, -2.0), 0, False),  # zeros are nothing
        ((0.0, 0.0, 0.0), 1, False),
    ],
)
def test_who_wins(maps, target, kept):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, wanted = draw(1, 1, 2, 2), torch.tensor([target])
    found = Compete(stacked(*maps))(model, x, wanted)
    assert torch.equal(found, torch.full_like(x, maps[target] if kept else 0.0))


def test_the_sum_over_channels_decides_for_a_whole_pixel():
    maps = torch.tensor([[3.0, -1.0], [1.0, 0.5]]).view(2, 2, 1, 1)

    def method(model, x, target):
        return maps[target].expand_as(x).clone()

    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    x, target = draw(1, 2, 2, 2), torch.tensor([0])
    whole = Compete(method, per_channel=False)(model, x, target)
    assert torch.equal(whole, maps[:1].expand_as(x)), "the negative channel of a winner stays"
    each = Compete(method)(model, x, target)
    assert torch.equal(each, whole), "it is the smallest of its channel, too"
    beaten = Compete(method, per_channel=False)(model, x, target + 1)
    assert not beaten.any()
    assert Compete(method)(model, x, target + 1)[:, 1].all()


def test_undefined_values_are_not_taken_for_losers():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    for target in (0, 1):
        method = stacked(1.0, float("nan"), -1.0)
        found = Compete(method)(model, draw(1, 1, 2, 2), torch.tensor([target]))
        assert found.isnan().all()


# Which labels


def test_top_competes_with_the_largest_logits_and_always_with_itself():
    method, logits = TimesInput(Gradient()), TEN(X).detach()
    found = Compete(method, top=3)(TEN, X, TARGET)
    for i, target in enumerate(TARGET.tolist()):
        best = [k for k in logits[i].argsort(descending=True).tolist() if k != target][:2]
        expected = definition(method, TEN, X, TARGET, labels=[target, *best])[i]
        assert torch.equal(found[i], expected)


def test_top_of_all_is_all_and_of_one_is_the_map_itself():
    method = TimesInput(Gradient())
    assert torch.equal(Compete(method, top=10)(TEN, X, TARGET), Compete(method)(TEN, X, TARGET))
    assert torch.equal(Compete(method, top=1)(TEN, X, TARGET), method(TEN, X, TARGET))
    fewer = [(Compete(method, top=m)(TEN, X, TARGET) != 0).sum().item() for m in (1, 2, 4, 10)]
    assert fewer == sorted(fewer, reverse=True)
    assert fewer[0] > fewer[-1]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"top": -1}, ValueError, "top -1 must be at least 0"),
        ({"top": 2.0}, TypeError, "top 2.0 must be int, not float"),
        ({"top": True}, TypeError, "top True must be int"),
        ({"per_channel": 1}, TypeError, "per_channel 1 must be True or False"),
    ],
)
def test_wrong_settings_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        Compete(Gradient(), **given)


def test_more_competitors_than_labels_are_refused():
    with pytest.raises(ValueError, match=r"top 11 is more than the 10 labels.*valid are 1 to 10"):
        Compete(Gradient(), top=11)(TEN, X, TARGET)


def test_maps_of_another_shape_are_refused():
    def method(model, x, target):
        return x[:, : 1 + int(target[0] == 3)]

    with pytest.raises(ValueError, match=r"shape \(4, 2, 8, 8\).* and \(4, 1, 8, 8\) for other"):
        Compete(method)(TEN, X, TARGET)


def test_describes_itself_without_its_store(tmp_path):
    stored = Compete(Gradient(), store=Store(tmp_path))
    assert repr(stored) == "Compete(method=Gradient(), top=0, per_channel=True)"
    assert stored == Compete(Gradient())
    assert hash(stored) == hash(Compete(Gradient()))
    assert (passes(cgi()), passes(competitive_ig(steps=7)), passes(cgi(top=5))) == (1, 7, 5)
    assert cgi().every_label
    assert not cgi(top=5).every_label


# Chunks, memory, state


@every_method
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_does_not_depend_on_chunks(name, limit):
    model, x = convolutional(dtype=torch.float64), X.double()
    whole = Compete(METHODS[name])(model, x, TARGET)
    with chunk_limit(limit):
        assert relative(Compete(METHODS[name])(model, x, TARGET), whole) < 1e-12
    singles = [Compete(METHODS[name])(model, x[i : i + 1], TARGET[i : i + 1]) for i in range(4)]
    assert relative(torch.cat(singles), whole) < 1e-12


@pytest.mark.parametrize("images", [0, 1, 3])
def test_does_not_depend_on_how_many_graphs_are_kept(images, monkeypatch):
    model, x = convolutional(dtype=torch.float64), X.double()
    whole = competitive_ig(steps=5)(model, x, TARGET)
    monkeypatch.setattr(competition, "room", lambda *_: images)
    if images == 0:
        monkeypatch.setattr(per_label, "_CPU_BYTES", 0)
    assert relative(competitive_ig(steps=5)(model, x, TARGET), whole) < 1e-12


@pytest.mark.parametrize("build", [cgi, competitive_ig])
def test_memory_does_not_grow_with_labels(build):
    model, peaks = convolutional(200), []
    few = {} if build is cgi else {"steps": 3}
    for top in (10, 150):
        with LiveTensors() as live:
            build(top=top, **few)(model, X, TARGET)
        assert live.alive < X.nbytes * 3
        peaks.append(live.peak)
    assert peaks[0] > 3 * X.nbytes, "the counter sees the pass"
    assert peaks[1] <= peaks[0] * 1.01


def test_the_number_of_forward_passes_does_not_grow_with_labels():
    for classes in (3, 30):
        model, seen = convolutional(classes), []
        model.register_forward_pre_hook(lambda _module, inputs, seen=seen: seen.append(inputs))
        cgi()(model, X, TARGET % 3)
        assert len(seen) == 2, "one for the logits, one for the graph"


def test_a_pass_that_starts_in_the_middle_gives_the_same():
    model = small()
    blocks = find_blocks(model, draw(2, 3, 16, 16))
    x, target = draw(3, 3, 16, 16), torch.tensor([0, 1, 4])
    expected = cgi()(model, x, target)
    with replaying(model, blocks, x) as replay:
        replay.random({blocks[-1].name})
        for _ in range(2):
            assert torch.equal(cgi()(model, x, target), expected)


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("build", [cgi, competitive_ig])
def test_state_comes_back_when_a_backward_pass_fails(build, at):
    model, calls = unsettle(small()), iter(range(at))

    def fail(_gradient):
        if next(calls, None) is None:
            raise FaultError

    def hook(_module, _inputs, logits):
        if logits.requires_grad:
            logits.register_hook(fail)

    model.register_forward_hook(hook)
    before, x = state(model), draw(3, 3, 16, 16)
    kept = x.clone()
    with pytest.raises(FaultError):
        build()(model, x, torch.tensor([1, 2, 3]))
    assert_unchanged(model, before)
    assert torch.equal(x, kept)


# Labels that share a pass, as on a GPU


@pytest.fixture
def sharing(monkeypatch):
    monkeypatch.setattr(competition, "_SHARING", {"cpu"})


@contextmanager
def batches(model):
    """The number of pictures in each backward pass."""
    seen = []

    def hook(_module, _inputs, logits):
        if logits.requires_grad:
            logits.register_hook(lambda gradient: seen.append(len(gradient)))

    handle = model.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


@every_method
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("limit", [2, 30])
def test_shared_passes_change_rounding_only(name, per_channel, limit, sharing):
    model, x = convolutional(dtype=torch.float64), X.double()
    expected = definition(METHODS[name], model, x, TARGET, per_channel=per_channel)
    with chunk_limit(limit):
        found = Compete(METHODS[name], per_channel=per_channel)(model, x, TARGET)
    assert relative(found, expected) < 1e-12
    assert torch.equal(found != 0, expected != 0)


@pytest.mark.parametrize(
    ("limit", "build", "each"),
    [
        (3, cgi, [3] * 10 + [3] * 4),  # three pictures, then one with three labels
        (8, cgi, [8] * 5),
        (25, cgi, [20] * 2),  # not 24, 24 and 4
        (1000, cgi, [40]),
        (1000, partial(cgi, top=3), [12]),
        (24, partial(competitive_ig, steps=3), [24] * 5),
    ],
)
def test_as_many_labels_share_a_pass_as_go_through_at_once(limit, build, each, sharing):
    model = convolutional()
    with batches(model) as seen, chunk_limit(limit):
        build()(model, X, TARGET)
    assert seen == each


def test_one_pass_a_label_where_none_is_shared():
    model = convolutional()
    with batches(model) as seen:
        cgi()(model, X, TARGET)
    assert seen == [4] * 10


@pytest.mark.parametrize("limit", [4, 12, 1000])
def test_labels_that_are_the_same_tie_in_shared_passes(limit, sharing):
    five, twice = convolutional(5), convolutional(10)
    state = five.state_dict()
    last = {name: state[name].repeat_interleave(2, 0) for name in list(state)[-2:]}
    twice.load_state_dict(state | last)
    target = torch.tensor([3, 0, 4, 3])
    expected = Compete(Gradient())(five, X, target) != 0
    assert expected.any()
    with chunk_limit(limit):
        assert torch.equal(Compete(Gradient())(twice, X, 2 * target) != 0, expected)
        assert torch.equal(Compete(Gradient())(twice, X, 2 * target + 1) != 0, expected)


@pytest.mark.parametrize("fits", [1, 2, 5])
def test_labels_that_do_not_fit_in_one_pass_share_less(fits, sharing):
    model, x = convolutional(dtype=torch.float64), X.double()
    expected, seen = cgi()(model, x, TARGET), []

    def hook(_module, _inputs, logits):
        def full(gradient):
            seen.append(len(gradient))
            if len(gradient) > fits * len(x):
                raise torch.OutOfMemoryError("no room")

        if logits.requires_grad:
            logits.register_hook(full)

    model.register_forward_hook(hook)
    assert relative(cgi()(model, x, TARGET), expected) < 1e-12
    refused = [size for size in seen if size > fits * len(x)]
    assert refused == [4 * k for k in (10, 5, 2) if k > fits]
    assert seen[len(refused) :] == [4 * fits] * (10 // fits)


def test_an_interrupted_run_of_shared_passes_goes_on(tmp_path, counting, sharing):
    with chunk_limit(12):
        whole = competing()(TEN, X, TARGET)
        assert counting == [12] * 4
        Counted.fuse = 7
        with pytest.raises(KeyboardInterrupt):
            competing(Store(tmp_path))(TEN, X, TARGET)
        Counted.fuse = None
        counting.clear()
        assert torch.equal(competing(Store(tmp_path))(TEN, X, TARGET), whole)
    assert len(counting) == 2
    # Another number of labels a pass goes on from there, too.
    assert torch.equal(competing(Store(tmp_path))(TEN, X, TARGET), whole)


def test_memory_of_shared_passes_does_not_grow_with_labels(sharing):
    model, peaks = convolutional(200), []
    for top in (20, 150):
        with LiveTensors() as live, chunk_limit(20):
            cgi(top=top)(model, X, TARGET)
        peaks.append(live.peak)
    assert peaks[1] <= peaks[0] * 1.01


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@every_method
def test_gpu_gives_what_the_cpu_gives(name):
    model, x = convolutional(dtype=torch.float64), X.double()
    expected = Compete(METHODS[name])(model, x, TARGET)
    there = convolutional(dtype=torch.float64).cuda()
    with batches(there) as seen:
        found = Compete(METHODS[name])(there, x.cuda(), TARGET.cuda())
    assert relative(found.cpu(), expected) < 1e-9
    assert name == "no passes" or max(seen) > len(x)


# Theory


@pytest.mark.parametrize("label", [0, 4, 9])
def test_gradient_times_input_adds_up_to_the_logit_without_biases(label):
    model, x = convolutional(bias=False, dtype=torch.float64), X.double()
    target = torch.full((4,), label)
    sums = TimesInput(Gradient())(model, x, target).sum((1, 2, 3))
    logits = model(x).detach()[:, label]
    assert relative(sums, logits) < 1e-12
    biased = convolutional(dtype=torch.float64)
    sums = TimesInput(Gradient())(biased, x, target).sum((1, 2, 3))
    assert relative(sums, biased(x).detach()[:, label]) > 0.03, "with biases it does not"


def test_who_stays_does_not_depend_on_the_values_of_pixels():
    model, x = convolutional(dtype=torch.float64), X.double()
    assert (x > 0).any()
    assert (x < 0).any()
    gradients = torch.stack([Gradient()(model, x, torch.full((4,), k)) for k in range(10)])
    own = Gradient()(model, x, TARGET)
    largest, smallest = gradients.amax(0), gradients.amin(0)
    stays = ((own > 0) & (own == largest)) | ((own < 0) & (own == smallest))
    assert torch.equal(cgi()(model, x, TARGET) != 0, stays)
    assert torch.equal(Compete(Gradient())(model, x, TARGET) != 0, stays)


class Redrawn(nn.Module):
    """One trunk, and for each image of the batch a logit layer drawn by itself."""

    def __init__(self, draws: int, classes: int):
        super().__init__()
        self.trunk = seeded(nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU()))
        self.heads = nn.Parameter(draw(draws, classes, 16, seed=classes))

    def forward(self, x):
        return torch.einsum("nf,nkf->nk", self.trunk(x), self.heads)


@pytest.mark.parametrize("classes", [2, 3, 10, 40])
@pytest.mark.parametrize("target", [0, 1])
def test_share_that_stays_when_the_logit_layer_is_drawn_anew(classes, target):
    draws = 4000
    model, x = Redrawn(draws, classes), draw(1, 3, 2, 2).expand(draws, -1, -1, -1)
    found = cgi()(model, x, torch.full((draws,), target))
    # One value of each draw: those of one network hang together, those of two do not.
    stays = (found[:, 1, 0, 1] != 0).double().mean().item()
    p = 2 / classes * (1 - 2**-classes)
    assert abs(stays - p) < 4 * (p * (1 - p) / draws) ** 0.5


# Going on after an interruption


@dataclass(frozen=True)
class Counted:
    """A method that counts its calls, and ends the run or the whole process at one of them."""

    method: Attribution

    calls: ClassVar[list[int]] = []
    fuse: ClassVar[int | None] = None
    fatal: ClassVar[bool] = False

    def __call__(self, model, x, target):
        self.calls.append(len(x))
        if len(self.calls) == self.fuse:
            if self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        return self.method(model, x, target)


@pytest.fixture(autouse=True)
def counting(monkeypatch):
    monkeypatch.setattr(competition, "_SECONDS", 0.0)
    Counted.calls.clear()
    Counted.fuse = None
    return Counted.calls


def competing(store=None):
    return Compete(Counted(TimesInput(Gradient())), store=store)


@pytest.mark.parametrize("at", [1, 2, 6, 10])
def test_an_interrupted_run_goes_on(at, tmp_path, counting):
    whole, store = competing()(TEN, X, TARGET), Store(tmp_path)
    counting.clear()
    Counted.fuse = at
    with pytest.raises(KeyboardInterrupt):
        competing(store)(TEN, X, TARGET)
    Counted.fuse = None
    counting.clear()
    assert torch.equal(competing(Store(tmp_path))(TEN, X, TARGET), whole)
    # The target's map is first kept with the first rival's.
    assert len(counting) == (10 if at <= 2 else 10 - (at - 1))
    counting.clear()
    assert torch.equal(competing(store)(TEN, X, TARGET), whole)
    assert not counting


SCRIPT = """
import sys
import test_competition as tests
from saliency_sanity.experiments.store import Store
tests.competition._SECONDS = 0.0
tests.Counted.fuse, tests.Counted.fatal = int(sys.argv[2]), True
tests.competing(Store(sys.argv[1]))(tests.TEN, tests.X, tests.TARGET)
"""


def test_a_run_that_was_killed_goes_on_in_another_process(tmp_path, counting):
    whole = competing()(TEN, X, TARGET)
    counting.clear()
    search = os.pathsep.join(
        [str(Path(__file__).parent), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    )
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path, "7"],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert torch.equal(competing(Store(tmp_path))(TEN, X, TARGET), whole)
    assert len(counting) == 10 - 6


def test_finished_chunks_are_not_made_again(tmp_path, counting):
    whole = competing()(TEN, X, TARGET)
    with chunk_limit(2):
        counting.clear()
        Counted.fuse = 15  # the fifth of the second chunk
        with pytest.raises(KeyboardInterrupt):
            competing(Store(tmp_path))(TEN, X, TARGET)
        Counted.fuse = None
        counting.clear()
        found = competing(Store(tmp_path))(TEN, X, TARGET)
    assert counting == [2] * 6
    assert relative(found, whole) < 1e-5


def test_work_is_kept_now_and_then_only(tmp_path, monkeypatch):
    puts = []
    monkeypatch.setattr(Store, "put", lambda self, key, arrays: puts.append(sorted(arrays)))
    monkeypatch.setattr(competition, "_SECONDS", 1e9)
    cgi_ = Compete(TimesInput(Gradient()), store=Store(tmp_path))
    cgi_(TEN, X, TARGET)
    assert puts == [["map"]]


def test_what_a_result_depends_on_is_in_its_key(tmp_path):
    store, keys = Store(tmp_path), []

    class Noting(Store):
        def get(self, key):
            keys.append(repr(sorted(key.items(), key=str)))
            return store.get(key)

    noting, inner = Noting(tmp_path), TimesInput(Gradient())
    Compete(inner, store=noting)(TEN, X, TARGET)
    Compete(inner, top=4, store=noting)(TEN, X, TARGET)
    Compete(inner, per_channel=False, store=noting)(TEN, X, TARGET)
    Compete(TimesInput(Gradient(), None), store=noting)(TEN, X, TARGET)  # the first again
    Compete(Gradient(), store=noting)(TEN, X, TARGET)
    Compete(inner, store=noting)(TEN, X + 1, TARGET)
    Compete(inner, store=noting)(TEN, X, TARGET - TARGET)
    Compete(inner, store=noting)(convolutional(bias=False), X, TARGET)
    Rectified(Compete(inner, store=noting), Guided())(TEN, X, TARGET)
    assert keys[3] == keys[0]
    assert len(set(keys)) == len(keys) - 1


def test_a_rule_around_it_is_no_plain_result(tmp_path):
    inner, store = TimesInput(Gradient()), Store(tmp_path)
    plain = Compete(inner, store=store)(TEN, X, TARGET)
    guided = Rectified(Compete(inner, store=store), Guided())(TEN, X, TARGET)
    assert torch.equal(guided, Rectified(Compete(inner), Guided())(TEN, X, TARGET))
    assert not torch.equal(guided, plain)
