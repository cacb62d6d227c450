"""What every method owes its caller, whichever network it explains.

A new card of the catalogue is tested by being listed. Entries are written with few samples,
steps and competing labels: what is tested holds for one as for fifty.
"""

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from made.networks import apt, draw, relative
from made.states import (
    FaultError,
    assert_unchanged,
    build,
    global_state,
    state,
    unsettle,
)
from saliency_sanity import CATALOGUE, chunk_limit
from torch import Tensor

METHODS = [name for name, card in CATALOGUE.items() if card.kind == "method"]
# What needs a class token is asked on networks that have one, without a rule for rectifiers.
ATTENTION = [name for name, card in CATALOGUE.items() if "attention" in card.needs]
OTHERS = tuple(name for name in CATALOGUE if name not in ATTENTION)
# DeepLIFT has no rule for a product of hidden units, as attention is.
TOKENS = tuple(
    name
    for name, card in CATALOGUE.items()
    if not {"relu", "layer"} & {*card.needs} and name != "deeplift"
)
# Neither label nor classifier is in them.
LABEL_FREE = ("attention", "attention_rollout")


@dataclass(frozen=True)
class Case:
    fixture: str
    size: int
    classes: int
    dtype: torch.dtype = torch.float32
    methods: tuple[str, ...] = OTHERS
    images: int = 3
    narrow: str | None = None  # a layer of few channels, for what takes a pass for each

    def batch(self) -> tuple[Tensor, Tensor]:
        x = draw(self.images, 3, self.size, self.size, dtype=self.dtype)
        return x, torch.arange(1, self.images + 1) % self.classes


CASES = {
    "small": Case("small_net", 16, 5),
    "small-float64": Case("small_net_double", 16, 5, torch.float64),
    "transformer": Case("small_transformer", 16, 5, methods=TOKENS),
    "transformer-float64": Case("small_transformer_double", 16, 5, torch.float64, TOKENS),
    "resnet18": Case("resnet_double", 48, 1000, torch.float64, images=2, narrow="maxpool"),
    "efficientnet_lite0": Case("efficientnet", 64, 1000, narrow="blocks.0.0.conv_pw"),
    "inception_v3": Case(
        "inception_double",
        75,
        1000,
        torch.float64,
        ("gradient", "vargrad", "guided_backprop", "grad_cam"),
        images=2,
    ),
}
MATRIX = [
    pytest.param(case, name, id=f"{key}-{name}")
    for key, case in CASES.items()
    for name in case.methods
]
every_entry = pytest.mark.parametrize("name", CATALOGUE)


def assert_same_images(found: Tensor, expected: Tensor) -> None:
    """Equal to rounding, image by image.

    Another batch size rounds otherwise. Where a unit of a large network lies within rounding of
    its kink, it may then fall on the other side, and the gradient of that image jumps: rare in
    single precision (one image in three is let off), unheard of in double.
    """
    differences = sorted(
        relative(one, other) if other.any() else one.abs().max().item()
        for one, other in zip(found, expected, strict=True)
    )
    if found.dtype == torch.float64:
        assert differences[-1] < 1e-9
    else:
        assert differences[len(differences) // 2] < 1e-5


@pytest.mark.parametrize(("case", "name"), MATRIX)
def test_map_has_the_promised_form_and_no_batch_mates(case, name, request):
    model = request.getfixturevalue(case.fixture)
    method = build(name, **{"layer": case.narrow} if CATALOGUE[name].every_channel else {})
    x, target = case.batch()
    kept = x.clone()

    batch = method(model, x, target)

    assert batch.shape in (x.shape, (len(x), 1, case.size, case.size))
    assert batch.dtype == case.dtype
    assert batch.device == x.device
    assert not batch.requires_grad
    assert batch.grad_fn is None
    assert batch.is_contiguous()
    assert torch.isfinite(batch).all()
    assert batch.abs().max() > 0
    assert torch.equal(x, kept)
    assert torch.equal(method(model, x, target), batch), "the same call twice"
    single = [method(model, x[i : i + 1], target[i : i + 1]) for i in range(len(x))]
    assert_same_images(torch.cat(single), batch)
    with chunk_limit(1):
        assert_same_images(method(model, x, target), batch)


@pytest.mark.parametrize("name", METHODS)
def test_map_depends_on_model_and_target(name):
    model, other = apt(name), apt(name, seed=1)
    x, target = CASES["small"].batch()
    reference = build(name)(model, x, target)
    assert relative(build(name)(other, x, target), reference) > 1e-3
    found = build(name)(model, x, target - 1)
    assert (relative(found, reference) < 1e-3) == (name in LABEL_FREE)


@every_entry
def test_single_chunks_are_bitwise_reproducible(name):
    model = apt(name, torch.float64)
    x, target = CASES["small-float64"].batch()
    method = build(name)
    with chunk_limit(1):
        batch = method(model, x, target)
    single = [method(model, x[i : i + 1], target[i : i + 1]) for i in range(3)]
    for limit in (2, 5):
        with chunk_limit(limit):
            assert relative(method(model, x, target), batch) < 1e-13
    assert relative(torch.cat(single), batch) < 1e-13


@every_entry
def test_global_random_state_neither_matters_nor_changes(name):
    model = apt(name)
    x, target = CASES["small"].batch()
    kept = global_state()
    try:
        maps = []
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            before = global_state()
            maps.append(build(name)(model, x, target))
            assert global_state() == before
        assert torch.equal(*maps)
    finally:
        random.setstate(kept[0])
        torch.set_rng_state(torch.tensor(kept[2], dtype=torch.uint8))


@every_entry
def test_model_in_any_state_gives_the_same_map_and_keeps_its_state(name):
    x, target = CASES["small"].batch()
    model = unsettle(apt(name))
    before, kept = state(model), x.clone()

    found = build(name)(model, x.requires_grad_(), target)

    assert torch.equal(found, build(name)(apt(name), kept, target))
    assert not found.requires_grad
    assert x.requires_grad
    assert x.grad is None
    assert torch.equal(x, kept)
    assert_unchanged(model, before)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("where", ["second", "head"])
@pytest.mark.parametrize("passes", [0, 1])
def test_state_comes_back_after_an_exception(name, where, passes):
    x, target = CASES["small"].batch()
    model = unsettle(apt(name))
    calls = iter(range(passes))

    def fail(module, inputs):
        if next(calls, None) is None:
            raise FaultError

    getattr(model.network, where).register_forward_pre_hook(fail)
    before, kept, grad_mode = state(model), x.clone(), torch.is_grad_enabled()

    with pytest.raises(FaultError), chunk_limit(1):
        build(name)(model, x, target)

    assert_unchanged(model, before)
    assert torch.equal(x, kept)
    assert torch.is_grad_enabled() == grad_mode
    # Nothing intercepts rectifiers any longer.
    leaf = torch.tensor([1.0], requires_grad=True)
    (torch.relu(leaf) * -1).sum().backward()
    assert leaf.grad.item() == -1


@every_entry
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_the_caller_records_nothing(name, mode):
    model = apt(name)
    x, target = CASES["small"].batch()
    expected = build(name)(model, x, target)
    with mode():
        inside = build(name)(model, x, target)
        # Tensors made here are of another kind under inference mode.
        made_here = build(name)(model, x + 0, target + 0)
    assert torch.equal(inside, expected)
    assert torch.equal(made_here, expected)


@every_entry
def test_works_on_memory_of_any_layout(name):
    model = apt(name)
    x, target = CASES["small"].batch()
    strided = torch.stack([x, x], dim=-1)[..., 0]
    expected = build(name)(model, x, target)
    for other in (x.to(memory_format=torch.channels_last), strided):
        found = build(name)(model, other, target)
        assert found.is_contiguous()
        assert relative(found, expected) < 1e-6


X, TARGET = CASES["small"].batch()
WRONG = {
    "negative target": (X, TARGET - 3, ValueError, "target -2 is out of range"),
    "length": (X, TARGET[:2], ValueError, r"target must be \[3\].*not \(2,\)"),
    "scalar target": (X, TARGET[0], ValueError, r"target must be \[3\].*not \(\)"),
    "target dtype": (X, TARGET.int(), TypeError, "int64 tensor, not torch.int32"),
    "target list": (X, [1, 2, 3], TypeError, "int64 tensor, not list"),
    "3-D": (X[0], TARGET[:1], ValueError, r"\[N, C, H, W\].*\(3, 16, 16\)"),
    "empty": (X[:0], TARGET[:0], ValueError, r"N >= 1, not \(0, 3, 16, 16\)"),
    "integers": ((X * 9).int(), TARGET, TypeError, "floating-point tensor, not torch.int32"),
    "array": (X.numpy(), TARGET, TypeError, "floating-point tensor, not ndarray"),
    "other dtype": (X.double(), TARGET, TypeError, "x is torch.float64 but the model is"),
    "NaN": (torch.stack([X[0], X[1] * np.nan, X[2]]), TARGET, ValueError, r"NaN.*\[1\]"),
    "infinite": (torch.stack([X[0], X[1], X[2] / 0]), TARGET, ValueError, r"infinite.*\[2\]"),
}


@every_entry
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input_is_refused_with_its_value(name, kind):
    model = apt(name)
    x, target, error, message = WRONG[kind]
    with pytest.raises(error, match=message):
        build(name)(model, x, target)


# Controls never ask the model, so that they cannot know its number of classes.
@pytest.mark.parametrize("name", METHODS)
def test_target_beyond_the_classes_is_refused(name):
    model = apt(name)
    with pytest.raises(ValueError, match="target 5 is out of range: valid are 0 to 4"):
        build(name)(model, X, torch.tensor([0, 5, 1]))


@every_entry
def test_model_that_is_no_module_is_refused(name):
    with pytest.raises(TypeError, match=r"torch.nn.Module, not function"):
        build(name)(lambda x: x, X, TARGET)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("output", [lambda y: y[:, :, None], lambda y: (y, y), lambda y: y[:1]])
def test_model_without_logits_is_refused(name, output):
    model = apt(name)
    model.register_forward_hook(lambda module, inputs, logits: output(logits))
    with pytest.raises(ValueError, match=r"must return logits \[\d+, K\]"):
        build(name)(model, X, TARGET)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@every_entry
def test_gpu_gives_what_the_cpu_gives(name):
    model = apt(name, torch.float64)
    x, target = CASES["small-float64"].batch()
    expected = build(name)(model, x, target)
    model = model.cuda()
    before = torch.cuda.get_rng_state()
    found = build(name)(model, x.cuda(), target.cuda())
    assert found.is_cuda
    assert found.is_contiguous()
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert relative(found.cpu(), expected) < 1e-10
    with pytest.raises(ValueError, match="move all three to one device"):
        build(name)(model, x, target)
