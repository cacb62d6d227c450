"""Torch's defaults and what is wrapped around a network change no draw and no result."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from made.experiments import METRIC, images
from made.networks import ModularNet, apt, draw, seeded, small
from made.states import build
from saliency_sanity import CATALOGUE, METRICS, Classifier, Scaling, load_model
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.competition import Compete
from saliency_sanity.attribution.compose import NoiseAverage, Rectified
from saliency_sanity.attribution.controls import Noise
from saliency_sanity.attribution.gradcam import GradCAM
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.contract.trial import check_method
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.keys import subject
from saliency_sanity.experiments.label_permutation import Agreement
from saliency_sanity.experiments.store import Store
from saliency_sanity.probes.adversarial import adversarial, displaced
from saliency_sanity.probes.deletion import removal_curve, removal_order
from saliency_sanity.probes.recovery import (
    RandomConvolution,
    RandomDense,
    expected,
    recovered,
)
from saliency_sanity.probes.unrelated import MARGINALS
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.randomization.schemes import BATCH_NORM, SCHEMES, Randomization, Randomizer
from saliency_sanity.similarity.metrics import metric, similarity_matrix
from saliency_sanity.subjects.photographs import dithered
from saliency_sanity.subjects.toys import Linear, SumPool
from torch import nn

X, TARGET = images(3), torch.tensor([0, 1, 2])
OTHER, LARGE = small(seed=1, kind=ModularNet), (draw(2, 3, 50, 50), draw(3, 3, 50, 50, seed=1))


@contextmanager
def foreign_defaults():
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def same(one, other):
    """The same bits, in whatever they lie."""
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same(value, other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        assert one == other


def maps(name):
    return lambda model: build(name)(model, X, TARGET)


TOKENS = [name for name, card in CATALOGUE.items() if "attention" in card.needs]


def of_tokens(name):
    model = apt(name)
    return lambda _model: build(name)(model, X, TARGET)


def drawn(scheme, policy):
    def states(model):
        randomization = Randomization(scheme, policy, std=0.1)
        with Randomizer(model, find_blocks(model, X), randomization, X) as randomizer:
            randomizer.set(list(randomizer.blocks), 3)
            return dict(model.state_dict()) | {"logits": model(X)}

    return lambda model: {key: value.clone() for key, value in states(model).items()}


def experiment(model, **changes):
    methods = {"gradient": Gradient(), "smooth": NoiseAverage(Gradient(), 2),
               "guided": Rectified(Gradient(), Guided())}  # fmt: skip
    of = Experiment(model, X, TARGET, methods, METRIC, seeds=2, shown=1, **changes)()
    return {str(key): value for key, value in (of.matrices | of.priors | of.pictures).items()} | {
        "classes": of.classes, "stages": of.stages,
    }  # fmt: skip


def agreement(model):
    methods = {"c": Compete(Gradient(), top=2)}
    return dict(Agreement([model], [OTHER], X, methods, METRIC)().matrices)


def removal(model):
    order = removal_order(X - X.mean(), 0)
    return order, removal_curve(model, X, TARGET, order, [0, 0.3, 1], baseline=0.5)


def recovery(model):
    """Random networks, what is expected of them, and pictures made adversarial."""
    built = [RandomConvolution(3, X.shape[-1], pool=3), RandomDense(3, X.shape[-1])]
    scaling = Scaling((0.5,) * X.shape[1], (0.5,) * X.shape[1])
    moved = adversarial(model, X, TARGET, scaling, 0.1, 2)
    guided = {"guided": Rectified(Gradient(), Guided())}
    found = recovered(lambda seed: RandomConvolution(3, X.shape[-1], seed=seed), [0], guided, X)
    return (
        [(one.hidden, one.top, one.limit(X), expected(one, X)) for one in built],
        (moved, displaced(X, moved, scaling), vars(found["guided"])),
    )


def similarities(name):
    return lambda _model: similarity_matrix(metric(name), *LARGE)


TOYS = {
    "toys": lambda _: (Linear((3, 4, 4)).weight, SumPool().weight, dithered(X),
                       SumPool(filters=3).closed_form(X, TARGET)),
    "marginals": lambda _: [make((3, 4), torch.Generator().manual_seed(0))
                            for make in MARGINALS.values()],
    "own metric": lambda _: similarity_matrix(lambda a, b: (a - b).mean((1, 2, 3)), X, X),
    "numpy": lambda _: similarity_matrix(metric("ssim"), X.numpy(), X.numpy()),
    "networks": lambda _: [load_model(name, "none", "cpu", 3).state_dict()
                           for name in ("cnn", "mlp", "vit")],
}  # fmt: skip
WORK = {
    **{f"map {name}": maps(name) for name in CATALOGUE if name not in TOKENS},
    **{f"map {name} of tokens": of_tokens(name) for name in TOKENS},
    **{f"draw {s} {p}": drawn(s, p) for s in SCHEMES for p in BATCH_NORM},
    **{f"metric {name}": similarities(name) for name in METRICS},
    "experiment": experiment, "agreement": agreement, "removal": removal, "recovery": recovery,
    "key": lambda model: subject(model, X),
    "contract": lambda model: [str(v) for v in check_method("g", Gradient(), model, X, TARGET)],
    "logits": lambda model: (model.logits(X), model.predict(X)),
    **TOYS,
}  # fmt: skip


@pytest.mark.parametrize("work", WORK)
def test_defaults_of_torch_change_nothing(work):
    right = WORK[work](small(kind=ModularNet))
    model = small(kind=ModularNet)
    with foreign_defaults():
        found = WORK[work](model)
    same(found, right)


def test_an_untrained_network_is_drawn_in_its_own_way():
    def model():
        network, scaling = seeded(ModularNet()).eval(), Scaling((0.5,) * 3, (0.5,) * 3)
        return Classifier(
            network, name="", weights="", scaling=scaling, size=16,
            untrained=lambda _seed: ModularNet(),
        )  # fmt: skip

    one, other = model(), model()
    right = drawn("initializer", "keep")(one)
    with foreign_defaults():
        found = drawn("initializer", "keep")(other)
    same(found, right)


def compiled(network):
    return torch.compile(network, backend="eager")


def compiled_part(model):
    model = model.network if isinstance(model, Classifier) else model
    model.second = compiled(nn.DataParallel(model.second))
    return model


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "compiled": compiled,
    "both": lambda model: compiled(nn.DataParallel(model)),
    "a part": compiled_part,
}


class Nested(nn.Module):
    """Its part in a sequence is what data parallel training of old wraps."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU())
        self.head = nn.Linear(5, 5)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_is_wrapped_around_a_network_changes_nothing(wrapper):
    def bare(wrap=lambda network: network):
        network = seeded(ModularNet()).eval()
        # Used before: compiled code would go on without the hooks that come later.
        wrapped = wrap(network)
        with torch.no_grad():
            wrapped(X)
        return wrapped

    model = bare(WRAPPERS[wrapper])
    assert [block.name for block in find_blocks(model, X)] == ["first", "second", "head"]
    moments = Randomization("moments")
    same(experiment(model, randomization=moments), experiment(bare(), randomization=moments))
    same(GradCAM("late")(model, X, TARGET), GradCAM("late")(bare(), X, TARGET))
    same(subject(model, X)["model"][1:], subject(bare(), X)["model"][1:])


def test_wrapped_parts_and_classifiers_have_the_same_blocks_and_stores(tmp_path):
    def classifier(network):
        return Classifier(
            network, name="nested", weights="", scaling=Scaling((0.5,) * 3, (0.5,) * 3), size=16,
            cam_layer="features.2",
        )  # fmt: skip

    plain = classifier(seeded(Nested()).eval())
    right = find_blocks(plain, X)
    inner = seeded(Nested()).eval()
    inner.features = nn.DataParallel(inner.features)
    models = [
        classifier(inner),
        classifier(nn.DataParallel(seeded(Nested()).eval())),
        nn.DataParallel(classifier(seeded(Nested()).eval())),
        compiled(classifier(seeded(Nested()).eval())),
        classifier(nn.DataParallel(compiled(seeded(Nested()).eval()))),
    ]
    store = Store(tmp_path)
    first = experiment(plain, store=store)
    entries = len(list(tmp_path.rglob("*.safetensors")))
    for model in models:
        assert [b.name for b in find_blocks(model, X)] == [b.name for b in right]
        same(experiment(model), first)
        same(experiment(model, store=store), first)
        same(GradCAM()(model, X, TARGET), GradCAM()(plain, X, TARGET))
        same(Noise()(model, X, TARGET), Noise()(plain, X, TARGET))
    assert len(list(tmp_path.rglob("*.safetensors"))) == entries
