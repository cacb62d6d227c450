import copy
import math
from contextlib import nullcontext

import pytest
import torch
from made.networks import SmallNet, draw, seeded
from saliency_sanity import Classifier, Scaling, load_model
from saliency_sanity._random import generator
from saliency_sanity._random import seeded as global_seed
from saliency_sanity.randomization.blocks import find_blocks, find_stages
from saliency_sanity.randomization.schemes import (
    BATCH_NORM,
    PRESETS,
    SCHEMES,
    Randomization,
    Randomizer,
    randomized,
)
from torch import nn

ORDERS = ("top_down", "bottom_up", "independent", "full")
X = draw(6, 3, 16, 16)


class TwinNet(nn.Module):
    """Two layers of one shape, each with a norm; all tensors far from what is drawn."""

    def __init__(self):
        super().__init__()
        self.one, self.norm_one = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.two, self.norm_two = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        x = self.norm_one(self.one(x)).relu()
        return self.head(self.norm_two(self.two(x)).relu().mean((2, 3)))


def twin():
    network = seeded(TwinNet()).eval()
    for index, norm in enumerate((network.norm_one, network.norm_two)):
        norm.running_mean.copy_(draw(3, seed=index))
        norm.running_var.copy_(draw(3, seed=index + 5).square() + 0.5)
    return network


def build(seed):
    with global_seed(seed):
        return TwinNet()


def classifier(untrained=build):
    return Classifier(
        twin(), name="twin", weights="", scaling=Scaling((0.5,) * 3, (0.5,) * 3), size=16,
        untrained=untrained,
    )  # fmt: skip


def snapshot(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def tensors(module):
    return {
        key: value.clone()
        for key, value in module.state_dict().items()
        if value.is_floating_point()
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def in_scope(blocks, stage, policy):
    """Names of the tensors that a stage has to change."""
    chosen = [block for block in blocks if block.name in stage.blocks]
    buffers = [] if policy == "keep" else [key for block in chosen for key in block.buffers]
    return {key for block in chosen for key in block.parameters} | set(buffers)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("policy", BATCH_NORM)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bare", [False, True])
def test_each_stage_changes_what_is_in_scope_and_nothing_else(scheme, policy, order, bare):
    model = twin() if bare else classifier()
    network = getattr(model, "network", model)
    blocks = find_blocks(model, X)
    before = tensors(network)
    with Randomizer(model, blocks, Randomization(scheme, policy, 0.1), X) as randomizer:
        for seed in (0, 1):
            for stage in find_stages(blocks, order):
                randomizer.set(stage.blocks, seed)
                now = tensors(network)
                changed = {key for key in now if not torch.equal(now[key], before[key])}
                assert changed == in_scope(blocks, stage, policy)
                assert all(torch.isfinite(value).all() for value in now.values())
                if {"one", "two"} <= set(stage.blocks):
                    assert not torch.equal(now["one.weight"], now["two.weight"])
    assert same(tensors(network), before)


@pytest.mark.parametrize("policy", BATCH_NORM)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bare", [False, True])
def test_a_block_has_the_same_tensors_in_every_order_and_stage(scheme, policy, bare):
    model = twin() if bare else classifier()
    network = getattr(model, "network", model)
    blocks = find_blocks(model, X)
    owner = {key: block.name for block in blocks for key in block.parameters + block.buffers}
    drawn = {}
    for order in ORDERS:
        with Randomizer(model, blocks, Randomization(scheme, policy), X) as randomizer:
            for seed in (3, 4, 3):
                for stage in find_stages(blocks, order):
                    randomizer.set(stage.blocks, seed)
                    for key, value in tensors(network).items():
                        # Recalibrated statistics follow what lies below.
                        follows = policy == "recalibrate" and "running" in key
                        if owner[key] in stage.blocks and not follows:
                            first = drawn.setdefault((seed, key), value)
                            assert torch.equal(first, value), (order, stage, key)
    # Three values have six orders: two seeds may well give the same.
    for key in ("one.weight", "two.weight", "head.weight"):
        assert not torch.equal(drawn[3, key], drawn[4, key]), key


def test_the_whole_network_can_be_redrawn_in_one_context(small_net):
    blocks = find_blocks(small_net, X)
    before = tensors(small_net)
    with randomized(small_net, blocks, Randomization("moments"), seed=1) as network:
        assert network is small_net
        first = tensors(network)
    assert same(tensors(small_net), before)
    with randomized(small_net, blocks, Randomization("moments"), seed=1):
        assert same(tensors(small_net), first)
    with randomized(small_net, blocks, Randomization("moments"), seed=2):
        now = tensors(small_net)
        keys = [f"network.{key}" for block in blocks for key in block.parameters]
        assert not any(torch.equal(now[key], first[key]) for key in keys)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("policy", BATCH_NORM)
@pytest.mark.parametrize("bare", [False, True])
def test_afterwards_the_network_is_bit_for_bit_what_it_was(policy, bare, fails):
    model = twin() if bare else classifier()
    model.train()
    model.get_submodule("norm_two" if bare else "network.norm_two").eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    blocks = find_blocks(model, X)
    before, rng = snapshot(model), torch.get_rng_state()
    flags = [module.training for module in model.modules()]
    with (
        pytest.raises(RuntimeError, match="on purpose") if fails else nullcontext(),
        Randomizer(model, blocks, Randomization(batch_norm=policy), X) as randomizer,
    ):
        randomizer.set(["head", "one"], 5)
        if fails:
            raise RuntimeError("on purpose")
    assert same(snapshot(model), before)
    assert [module.training for module in model.modules()] == flags
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert [p.requires_grad for p in parameters] == [False] + [True] * (len(parameters) - 1)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.momentum for norm in norms] == [0.1, 0.1]
    assert torch.equal(torch.get_rng_state(), rng)


def test_nothing_depends_on_the_global_generator():
    def naive(_seed):
        return TwinNet()

    drawn = []
    for start in (1, 2):
        with global_seed(start):
            for model in (classifier(naive), twin()):
                blocks = find_blocks(model, X)
                drawn.append(Randomization().draw(model, blocks, 0))
    assert same(drawn[0], drawn[2])
    assert same(drawn[1], drawn[3])
    assert not torch.equal(drawn[0]["one.weight"], drawn[1]["one.weight"])


def wide():
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 1200), nn.ReLU(), nn.Linear(1200, 2))
    with torch.no_grad():
        network[1].weight.copy_(3 + 0.25 * draw(1200, 256, seed=1))
        network[3].weight.copy_(-1 + 0.5 * draw(2, 1200, seed=2))
        network[3].bias.copy_(torch.tensor([0.5, -0.5]))
    return network


def drawn(scheme, seed=0, **options):
    network = wide()
    blocks = find_blocks(network, draw(1, 1, 16, 16))
    return dict(network.named_parameters()), Randomization(scheme, **options).draw(
        network, blocks, seed
    )


@pytest.mark.parametrize("std", [0.01, 0.5])
def test_truncated_normals_end_at_two_std(std):
    values = drawn("truncated_normal", std=std)[1]["1.weight"]
    assert values.abs().max() <= 2 * std
    assert values.abs().max() > 1.99 * std
    # The spread that is left of a normal distribution cut at two.
    cut = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
    assert cut == pytest.approx(0.880, abs=1e-3)
    assert values.std().item() == pytest.approx(cut * std, rel=0.01)
    assert abs(values.mean().item()) < 0.01 * std


def test_truncated_normals_leave_norms_their_scale():
    blocks = find_blocks(twin(), X)
    values = Randomization("truncated_normal").draw(twin(), blocks, 0)
    assert torch.equal(values["norm_one.weight"], torch.ones(3))
    assert values["norm_one.bias"].abs().max() <= 0.02
    assert values["norm_one.bias"].abs().min() > 0


def test_moments_are_those_of_the_tensor():
    learned, values = drawn("moments")
    for key in ("1.weight", "3.weight"):
        std = learned[key].std().item()
        assert values[key].std().item() == pytest.approx(std, rel=0.05)
        assert values[key].mean().item() == pytest.approx(learned[key].mean().item(), abs=std / 10)
        # Gaussian: kurtosis three.
        z = (values[key] - values[key].mean()) / values[key].std()
        assert z.pow(4).mean().item() == pytest.approx(3, abs=0.4)


@pytest.mark.parametrize("seed", range(5))
def test_permutations_have_the_same_values_in_another_order(seed):
    learned, values = drawn("permutation", seed)
    for key, value in values.items():
        assert torch.equal(value.flatten().sort().values, learned[key].detach().flatten().sort()[0])
        assert not torch.equal(value, learned[key])
    assert torch.equal(values["3.bias"], torch.tensor([-0.5, 0.5]))


def test_the_initializer_is_that_of_the_untrained_network():
    numbers = []

    def remember(seed):
        numbers.append(seed)
        return build(seed)

    model = classifier(remember)
    values = Randomization().draw(model, find_blocks(model, X), 7)
    (number,) = numbers
    assert number != 7
    assert same(values, {key: value.detach() for key, value in build(number).named_parameters()})


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_networks_of_this_project_are_drawn_as_their_papers_do(name):
    model = load_model(name, "none", device="cpu", seed=3)
    blocks = find_blocks(model, draw(1, 1, 28, 28))
    values = Randomization().draw(model, blocks, 3)
    weights = [key for key in values if key.endswith("weight")]
    for key in weights:
        value, fan_in = values[key], values[key][0].numel()
        std = 0.1 if name == "cnn" else 2 / math.sqrt(fan_in)
        assert value.std().item() == pytest.approx(0.88 * std, rel=0.1)
        # Not the network itself, although it was made with the same seed.
        assert not torch.equal(value, model.network.get_parameter(key))


def test_a_bare_network_is_drawn_by_its_layers_own_rules():
    model = twin()
    values = Randomization().draw(model, find_blocks(model, X), 0)
    bound = 1 / math.sqrt(27)
    for key in ("one.weight", "two.weight", "one.bias"):
        assert values[key].abs().max() <= bound
    assert values["one.weight"].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)
    assert torch.equal(values["norm_two.weight"], torch.ones(3))
    assert torch.equal(values["norm_two.bias"], torch.zeros(3))


def test_drawing_leaves_the_network_alone():
    model = twin()
    blocks = find_blocks(model, X)
    before = snapshot(model)
    versions = [t._version for t in (*model.parameters(), *model.buffers())]
    for scheme in SCHEMES:
        for policy in BATCH_NORM:
            Randomization(scheme, policy).draw(model, blocks, 0)
    assert same(snapshot(model), before)
    assert [t._version for t in (*model.parameters(), *model.buffers())] == versions


class Tied(nn.Module):
    """A weight that two layers share; the second has a bias of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 12, bias=False)
        self.second = nn.Linear(12, 12)
        self.second.weight = self.first.weight
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.second(self.first(x.flatten(1)).relu()).relu())


def test_shared_weights_are_drawn_once_and_change_only_with_their_own_block():
    network = Tied()
    x = draw(1, 3, 2, 2)
    blocks = find_blocks(network, x)
    before = snapshot(network)
    with Randomizer(network, blocks, Randomization()) as randomizer:
        randomizer.set(["second"], 0)
        assert torch.equal(network.first.weight, before["first.weight"])
        assert not torch.equal(network.second.bias, before["second.bias"])
        randomizer.set(["first", "second"], 0)
        assert not torch.equal(network.first.weight, before["first.weight"])
        assert network.first.weight is network.second.weight
    assert same(snapshot(network), before)


class Stray(SmallNet):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(draw(3, 1, 1))

    def forward(self, x):
        return super().forward(x + self.token)


def test_a_parameter_without_an_initialiser_is_refused_by_name():
    network = Stray()
    blocks = find_blocks(network, X)
    before = snapshot(network)
    with (
        Randomizer(network, blocks, Randomization()) as randomizer,
        pytest.raises(ValueError, match=r"no initialiser is known for token: Stray.*moments"),
    ):
        randomizer.set(["head"])
    assert same(snapshot(network), before)
    for scheme in SCHEMES[1:]:
        assert not torch.equal(
            Randomization(scheme).draw(network, blocks, 0)["token"], network.token
        )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda _: SmallNet(), "no such parameter for one.weight"),
        (lambda _: Wider(), r"shape \(4, 5\) for head.weight \(4, 3\)"),
    ],
)
def test_an_untrained_network_of_another_architecture_is_refused(other, message):
    model = classifier(other)
    with pytest.raises(ValueError, match=message):
        Randomization().draw(model, find_blocks(model, X), 0)


class Wider(TwinNet):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 4)


def test_reset_makes_statistics_those_of_a_new_network():
    model = twin()
    blocks = find_blocks(model, X)
    before = snapshot(model)
    with Randomizer(model, blocks, Randomization(batch_norm="reset")) as randomizer:
        randomizer.set(["two"], 0)
        assert torch.equal(model.norm_two.running_mean, torch.zeros(3))
        assert torch.equal(model.norm_two.running_var, torch.ones(3))
        assert torch.equal(model.norm_one.running_mean, before["norm_one.running_mean"])


@torch.no_grad()
def test_recalibrated_statistics_are_those_of_the_images():
    model = twin()
    blocks = find_blocks(model, X)
    with Randomizer(model, blocks, Randomization(batch_norm="recalibrate"), X) as randomizer:
        for names in (["two"], ["one", "two"], ["two", "head"]):
            randomizer.set(names, 1)
            batches = X
            one = model.one(batches)
            if "one" in names:
                mean, var = one.mean((0, 2, 3)), one.var((0, 2, 3))
                torch.testing.assert_close(model.norm_one.running_mean, mean)
                torch.testing.assert_close(model.norm_one.running_var, var)
                column = one.var((0, 2, 3), correction=0)[:, None, None]
                one = (one - mean[:, None, None]) / (column + model.norm_one.eps).sqrt()
                one = one * model.norm_one.weight[:, None, None]
                one = one + model.norm_one.bias[:, None, None]
            else:
                one = model.norm_one(one)
            two = model.two(one.relu())
            torch.testing.assert_close(model.norm_two.running_mean, two.mean((0, 2, 3)))
            torch.testing.assert_close(model.norm_two.running_var, two.var((0, 2, 3)))
            assert not model.norm_one.training


def test_recalibration_needs_images():
    model = twin()
    with pytest.raises(ValueError, match="calibration=x"):
        Randomizer(model, find_blocks(model, X), Randomization(batch_norm="recalibrate"))


class Lazy(Randomization):
    """Gives back what was learned in one layer."""

    def draw(self, model, blocks, seed):
        return super().draw(model, blocks, seed) | {"two.weight": model.two.weight.detach().clone()}


def test_values_that_did_not_change_are_an_error_and_nothing_is_half_done():
    model = twin()
    blocks = find_blocks(model, X)
    before = snapshot(model)
    with Randomizer(model, blocks, Lazy("moments")) as randomizer:
        with pytest.raises(ValueError, match=r"left two.weight \(3, 3, 3, 3\) as it was"):
            randomizer.set(["one", "two", "head"], 0)
        assert same(snapshot(model), before)
        randomizer.set(["head"], 0)
        now = snapshot(model)
        assert {key for key in now if not torch.equal(now[key], before[key])} == {
            "head.weight",
            "head.bias",
        }


def test_a_constant_may_stay_what_it_is():
    model = classifier()
    with torch.no_grad():
        model.network.norm_one.weight.fill_(1.0)
    blocks = find_blocks(model, X)
    for scheme in SCHEMES:
        with randomized(model, blocks, Randomization(scheme)):
            assert torch.equal(model.network.norm_one.weight, torch.ones(3))


def test_an_unknown_block_is_named():
    model = twin()
    with (
        Randomizer(model, find_blocks(model, X), Randomization()) as randomizer,
        pytest.raises(ValueError, match=r"'too'.*two"),
    ):
        randomizer.set(["too"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "uniform"}, "randomization scheme 'uniform'"),
        ({"batch_norm": "drop"}, "batch-norm policy 'drop'"),
        ({"std": 0}, "std 0 must be positive"),
        ({"std": math.nan}, "std nan must be positive"),
    ],
)
def test_other_choices_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Randomization(**options)


def test_the_preset_is_the_default():
    preset = dict(PRESETS["reference-code"])
    assert preset.pop("explained") == "argmax"
    assert Randomization(**preset) == Randomization()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_other_dtypes_stay_what_they_are(scheme):
    model = copy.deepcopy(classifier()).double()
    x = X.double()
    with randomized(model, find_blocks(model, x), Randomization(scheme, "reset")):
        assert {value.dtype for value in tensors(model).values()} == {torch.float64}
        assert torch.isfinite(model(x)).all()


def test_generators_depend_on_names_and_seeding_is_undone():
    numbers = {generator(*keys).initial_seed() for keys in ((0,), (1,), ("0",), (0, "a"), ("a", 0))}
    assert len(numbers) == 5
    state = torch.get_rng_state()
    draws = []
    for seed in (1, 1, 2):
        with global_seed(seed):
            draws.append(torch.rand(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


class Picked(nn.Module):
    """Of its classes only some, by a parameter of integers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.order = nn.Parameter(torch.tensor([3, 1, 4, 0]), requires_grad=False)

    def forward(self, x):
        return self.first(x).mean((2, 3))[:, self.order]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_integers_can_only_be_shuffled(scheme):
    network, x = Picked().eval(), draw(2, 3, 8, 8)
    blocks = find_blocks(network, x)
    if scheme == "permutation":
        drawn = Randomization(scheme).draw(network, blocks, 0)
        assert sorted(drawn["order"].tolist()) == [0, 1, 3, 4]
        return
    with pytest.raises(ValueError, match=rf"order holds torch.int64, for which .* '{scheme}'"):
        Randomization(scheme).draw(network, blocks, 0)
