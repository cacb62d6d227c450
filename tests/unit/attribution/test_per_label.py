"""Maps for many labels: what the method itself gives, with one forward pass."""

from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from made.networks import draw, small
from made.states import assert_unchanged, state, unsettle
from saliency_sanity import chunk_limit
from saliency_sanity.attribution import per_label
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.compose import (
    NoiseAverage,
    NoiseVariance,
    PathAverage,
    Product,
    Rectified,
    TimesInput,
)
from saliency_sanity.attribution.gradcam import GradCAM
from saliency_sanity.attribution.per_label import explaining, room
from saliency_sanity.attribution.rectifiers import Guided

X = draw(3, 3, 16, 16)
LABELS = [torch.tensor(labels) for labels in ([0, 0, 0], [4, 1, 3], [2, 4, 0])]
KEPT = {
    "gradient": Gradient(),
    "times input": TimesInput(Gradient()),
    "baseline": TimesInput(Gradient(), baseline=(0.1, 0.5, 1.0)),
    "path": TimesInput(PathAverage(Gradient(), steps=5, baseline=0.3), 0.3),
    "noise": NoiseAverage(Gradient(), samples=4),
    "noisy path": NoiseAverage(TimesInput(PathAverage(Gradient(), steps=3)), samples=2),
}
ANEW = {
    "variance": NoiseVariance(Gradient(), samples=3),
    "guided": Rectified(Gradient(), Guided()),
    "product": Product(Gradient(), TimesInput(Gradient())),
    "cam": GradCAM(),
    "noisy cam": NoiseAverage(GradCAM(), samples=2),
    "function": lambda model, x, target: Gradient()(model, x, target) ** 2,
}


@contextmanager
def forward_passes(model):
    seen = []
    handle = model.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    try:
        yield seen
    finally:
        handle.remove()


def expected(method, model, x=X):
    return [method(model, x, labels) for labels in LABELS]


def found(method, model, x=X):
    with explaining(method, model, x) as maps:
        return [maps(labels) for labels in LABELS]


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", [*KEPT, *ANEW])
def test_maps_are_those_of_the_method_to_the_last_bit(name, small_net):
    method = {**KEPT, **ANEW}[name]
    assert same(found(method, small_net), expected(method, small_net))
    maps = found(method, small_net)
    assert not any(one.requires_grad for one in maps)
    assert all(one.is_contiguous() for one in maps)
    assert not torch.equal(maps[0], maps[1])


@pytest.mark.parametrize("name", KEPT)
def test_more_labels_cost_no_more_forward_passes(name):
    model, counts = small(), []
    for labels in (1, 6):
        with forward_passes(model) as seen, explaining(KEPT[name], model, X) as maps:
            for label in range(labels):
                maps(torch.full((3,), label % 5))
        counts.append(sum(seen))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("limit", [1, 2])
def test_images_that_do_not_fit_at_once_are_explained_anew(name, limit, small_net):
    with chunk_limit(limit):
        assert same(found(KEPT[name], small_net), expected(KEPT[name], small_net))


@pytest.mark.parametrize("name", ["path", "noise", "noisy path"])
def test_graphs_are_kept_only_where_there_is_room(name, monkeypatch):
    model = small()
    theirs = expected(KEPT[name], model)
    with forward_passes(model) as seen:
        found(KEPT[name], model)
    kept = sum(seen)
    monkeypatch.setattr(per_label, "_CPU_BYTES", 0)
    assert room(KEPT[name], model, X) == 0
    with forward_passes(model) as seen:
        assert same(found(KEPT[name], model), theirs)
    assert sum(seen) > 1.5 * kept


def test_room_is_what_autograd_keeps(monkeypatch):
    class Powers(torch.nn.Module):
        """Saves the input and one tensor of its size for the backward pass: x and exp(x)."""

        def forward(self, x):
            return ((x * x).exp()).sum((2, 3))

    each = 2 * X[0].nbytes
    for bytes_, images in ((10 * each, 2), (10 * each - 1, 1), (4 * each, 0)):
        monkeypatch.setattr(per_label, "_CPU_BYTES", bytes_)
        assert room(PathAverage(Gradient(), steps=5), Powers(), X) == images
    assert room(Gradient(), Powers(), X) == 3


def test_exhausted_memory_frees_the_graphs_and_goes_on_without_them(small_net):
    theirs = expected(KEPT["path"], small_net)
    model, calls = small(), iter(range(3))

    def fail_once(_module, inputs):
        # The first pass measures, the second is one of the path's; the path goes in two chunks.
        if next(calls, None) == 2:
            raise torch.OutOfMemoryError("no room")

    model.register_forward_pre_hook(fail_once)
    with chunk_limit(8):
        theirs = expected(KEPT["path"], small_net)
        assert same(found(KEPT["path"], model), theirs)


def test_a_class_that_explains_otherwise_is_not_taken_for_its_base(small_net):
    class Negative(Gradient):
        def __call__(self, model, x, target):
            return -super().__call__(model, x, target)

    class Renamed(Gradient):
        pass

    assert same(found(Negative(), small_net), [-one for one in expected(Gradient(), small_net)])
    with forward_passes(small_net) as seen:
        assert same(found(Renamed(), small_net), expected(Gradient(), small_net))
    assert len(seen) == 1 + len(LABELS)


def test_a_class_of_methods_can_be_entered(small_net):
    @dataclass(frozen=True)
    class Ones:
        def __call__(self, model, x, target):
            raise AssertionError("not to be called")

    @explaining.register(Ones)
    @contextmanager
    def _(method, model, x):
        yield lambda labels: torch.ones_like(x) * labels.view(-1, 1, 1, 1)

    with explaining(TimesInput(Ones()), small_net, X) as maps:
        assert torch.equal(maps(LABELS[1]), X * LABELS[1].view(-1, 1, 1, 1))


@pytest.mark.parametrize("name", KEPT)
def test_wrong_labels_are_refused_and_the_state_comes_back(name):
    model = unsettle(small())
    before = state(model)
    for labels, message in (
        (torch.tensor([0, 5, 1]), "target 5 is out of range: valid are 0 to 4"),
        (torch.tensor([0, -1, 1]), "target -1 is out of range"),
        (torch.tensor([0, 1]), r"target must be \[3\]"),
    ):
        with pytest.raises(ValueError, match=message), explaining(KEPT[name], model, X) as maps:
            maps(labels)
        assert_unchanged(model, before)
    with (
        pytest.raises(TypeError, match="int64 tensor"),
        explaining(KEPT[name], model, X) as maps,
    ):
        maps(LABELS[0].int())
    assert_unchanged(model, before)
    with pytest.raises(ValueError, match="NaN"), explaining(KEPT[name], model, X * torch.nan):
        pass
    assert_unchanged(model, before)


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_the_caller_records_nothing(name, mode, small_net):
    theirs = expected(KEPT[name], small_net)
    with mode():
        ours = found(KEPT[name], small_net)
        made_here = found(KEPT[name], small_net, X + 0)
        assert not torch.is_grad_enabled()
    assert same(ours, theirs)
    assert same(made_here, theirs)
