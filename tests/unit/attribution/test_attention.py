"""Attention methods against their definitions, what can be proved of them, what is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from made.networks import SmallNet, SmallTransformer, apt, draw, relative, seeded, small
from made.states import state
from saliency_sanity import Classifier, load_model, resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.attention import Attention, GradientAttention, Rollout
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.gradcam import GradCAM
from saliency_sanity.attribution.lrp import Lrp
from saliency_sanity.networks.forward import logits_of
from saliency_sanity.randomization.blocks import find_blocks, find_stages
from saliency_sanity.randomization.schemes import SCHEMES, Randomization, randomized
from torch import Tensor, nn

DOUBLE = torch.float64
X, TARGET = draw(3, 3, 16, 16, dtype=DOUBLE), torch.tensor([1, 4, 2])
METHODS = [Attention(), Rollout(), GradientAttention()]
every_method = pytest.mark.parametrize("method", METHODS, ids=repr)


class WrittenOut(SmallTransformer):
    """The same network, which writes its attention out and keeps the weights."""

    seen: list[Tensor] | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.transpose(-2, -1) / 2
        weights = self.drop(scores.softmax(dim=-1))
        if self.seen is not None:
            self.seen.append(weights)
        return weights @ value


class Einsum(SmallTransformer):
    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights = F.softmax(torch.einsum("nhid,nhjd->nhij", query, key) / 2, -1)
        return torch.einsum("nhij,nhjd->nhid", weights, value)


class Module(SmallTransformer):
    """Its attention by torch's own module, which has ways of its own, with weights or without."""

    def __init__(self, needs_weights: bool = False):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.needs_weights = needs_weights

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = [part.transpose(1, 2).flatten(2) for part in (query, key, value)]
        eye, none = torch.eye(8).to(query), torch.zeros(24).to(query)
        found, _ = F.multi_head_attention_forward(
            *(part.transpose(0, 1) for part in parts), 8, 2,
            torch.cat([eye] * 3), none, None, None, False, 0.0, eye, none[:8],
            training=False, need_weights=self.needs_weights,
        )  # fmt: skip
        return found.transpose(0, 1).unflatten(2, (2, 4)).transpose(1, 2)


def by_definition(network: WrittenOut, method: object, x: Tensor, target: Tensor) -> Tensor:
    """Picture by picture and head by head, from the weights that the network itself keeps."""
    maps = []
    for one, label in zip(x.split(1), target, strict=True):
        network.seen = []
        score = network(one)[0, label]
        weights, network.seen = network.seen, None
        gradients = torch.autograd.grad(score, weights)
        total = torch.eye(17, dtype=DOUBLE)
        for block, gradient in zip(weights, gradients, strict=True):
            heads = zip(block[0], gradient[0], strict=True)
            if isinstance(method, GradientAttention):
                total = total + sum((a * g).relu() for a, g in heads) / 2 @ total
            else:
                total = (sum(block[0]) / 4 + torch.eye(17) / 2) @ total
        row = sum(weights[-1][0]) / 2 if isinstance(method, Attention) else total
        maps.append(row[0, 1:].view(1, 1, 4, 4))
    return F.interpolate(torch.cat(maps).detach(), scale_factor=4, mode="bilinear")


@pytest.fixture(scope="module")
def written() -> WrittenOut:
    return seeded(WrittenOut()).eval().double()


@every_method
def test_map_is_the_definition(method, written):
    found = method(written, X, TARGET)
    assert relative(found, by_definition(written, method, X, TARGET)) < 1e-12
    assert found.std((1, 2, 3)).min() > 1e-3


@every_method
@pytest.mark.parametrize("kind", ["fused", "einsum", "module", "module with weights"])
def test_attention_is_seen_however_it_is_called(kind, method, written):
    kinds = {
        "fused": SmallTransformer,
        "einsum": Einsum,
        "module": Module,
        "module with weights": lambda: Module(needs_weights=True),
    }
    network = kinds[kind]().eval().double()
    network.load_state_dict(written.state_dict(), strict=False)
    assert relative(network(X).detach(), written(X).detach()) < 1e-12
    before = state(network)
    assert relative(method(network, X, TARGET), method(written, X, TARGET)) < 1e-12
    with torch.inference_mode():
        assert relative(method(network, X, TARGET), method(written, X, TARGET)) < 1e-12
    assert state(network)[1] == before[1], "no module is touched, and no hook stays"


class SelfAttending(SmallTransformer):
    """One block of torch's module, which is faster, by other calls, where nobody differentiates."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def tokens(self, x: Tensor) -> Tensor:
        x = self.first(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        y = self.norm(x)
        return self.head((x + self.attention(y, y, y, need_weights=False)[0])[:, 0])


def test_torchs_module_is_seen_on_its_faster_way_too():
    network = seeded(SelfAttending()).eval().double().requires_grad_(False)
    y = network.norm(network.tokens(X))
    expected = network.attention(y, y, y)[1][:, 0, 1:].view(3, 1, 4, 4)
    expected = F.interpolate(expected, scale_factor=4, mode="bilinear")
    with torch.no_grad():
        assert relative(Attention()(network, X, TARGET), expected) < 1e-12


@pytest.mark.parametrize("fused", [True, False])
def test_timms_attention_fused_and_not(fused, vit):
    """Weights that ``attn_drop`` is given where attention is not fused."""
    network, x = vit.network, draw(2, 1, 28, 28)
    plain, seen = copy.deepcopy(network), []
    for block in plain.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    plain(x)
    for block in network.blocks:
        block.attn.fused_attn = fused
    found = Attention()(vit, x, torch.tensor([0, 1]))
    expected = seen[-1].mean(1)[:, 0, 1:].view(2, 1, 7, 7)
    assert len(seen) == 4
    assert relative(found, F.interpolate(expected, size=(28, 28), mode="bilinear")) < 1e-5


@pytest.fixture
def vit() -> Classifier:
    return load_model("vit", "none", device="cpu")


# What can be proved


@pytest.mark.parametrize("name", ["attention", "attention_rollout"])
def test_neither_label_nor_classifier_nor_values_change_attention(name, vit):
    """Nor the last block's values, projection and dense layers: all that comes after the last."""
    method, x = resolve(name), draw(2, 1, 28, 28)
    found = method(vit, x, torch.tensor([0, 1]))
    assert torch.equal(found, method(vit, x, torch.tensor([7, 3])))
    blocks = find_blocks(vit, x)
    with randomized(vit, [block for block in blocks if block.name == "head"]):
        assert torch.equal(found, method(vit, x, torch.tensor([0, 1])))
    last = vit.network.blocks[3]
    with torch.no_grad():
        last.attn.qkv.weight[128:].mul_(-3)
        last.attn.proj.weight.mul_(-2)
        last.mlp.fc1.weight.zero_()
        vit.network.norm.weight.mul_(2)
    assert torch.equal(found, method(vit, x, torch.tensor([0, 1])))
    with randomized(vit, [block for block in blocks if block.name == "blocks.3"]):
        assert relative(method(vit, x, torch.tensor([0, 1])), found) > 1e-3


def test_gradient_x_attention_hangs_on_label_and_classifier(vit):
    method, x, target = GradientAttention(), draw(2, 1, 28, 28), torch.tensor([0, 1])
    found = method(vit, x, target)
    assert relative(method(vit, x, target + 1), found) > 1e-2
    with randomized(vit, find_blocks(vit, x)[-1:]):
        assert relative(method(vit, x, target), found) > 1e-2


def test_rollout_shares_out_a_whole():
    """Rows sum to 1: of the class token's, what is not in the patches is its own."""

    class Even(SmallTransformer):
        def attend(self, query, key, value):
            return super().attend(0 * query, key, value)

    network = seeded(Even()).eval().double()
    found = Rollout()(network, X, TARGET)
    # Two blocks: a quarter stays, the rest is shared evenly by all seventeen.
    assert torch.allclose(found, torch.full_like(found, 0.75 / 17), rtol=1e-12, atol=0)


# What is refused


class Plain(SmallTransformer):
    """Reads all tokens, or has no class token, or more tokens than it says, or has windows."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.num_prefix_tokens = {"says none": 0, "says two": 2}.get(how, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).flatten(2).transpose(1, 2)
        if self.how != "patches only":
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        for number, layer in enumerate((self.second, self.third)):
            if self.how == "fewer later" and number:
                x = x[:, :10]
            if self.how == "windows":
                x = torch.cat([x[:, :9], x[:, 8:]])
            parts = layer(self.norm(x)).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            x = x + self.attend(*parts).transpose(1, 2).flatten(2)
            if self.how == "windows":
                x = torch.cat(x.chunk(2), 1)[:, :17]
        x = x.mean(1) if self.how == "mean" else x[:, 0]
        return self.head(self.norm(x))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.how == "dropout":
            return F.scaled_dot_product_attention(query, key, value, dropout_p=1e-9)
        return super().attend(query, key, value)


REFUSED = {
    "patches only": "it has 16 tokens, which make no grid",
    "says none": "it has 17 tokens, which make no grid",
    "says two": "it has 17 tokens, which make no grid",
    "mean": "its logits read 17 of 17 tokens",
    "fewer later": r"the number of its tokens changes: \[10, 17\]",
    "windows": r"attention of the form \[2, 2, 9, 9\] for 1 picture",
    "dropout": "its attention has dropout",
}


@every_method
@pytest.mark.parametrize("how", REFUSED)
def test_refused_by_name(how, method):
    network = seeded(Plain(how)).eval().double()
    with pytest.raises(NotApplicable, match=f"nothing of Plain: .*{REFUSED[how]}"):
        method(network, X, TARGET)


@every_method
def test_network_without_attention_is_refused(method, small_net):
    with pytest.raises(NotApplicable, match="nothing of small: no softmax in it weighs anything"):
        method(small_net, X.float(), TARGET)


def test_patches_without_a_class_token_are_refused_and_have_a_grad_cam():
    class Patches(Plain):
        def __init__(self):
            super().__init__("patches only")
            self.num_prefix_tokens = 0
            self.late = nn.Identity()

        def attend(self, query, key, value):
            return super().attend(query, key, value)

    with pytest.raises(NotApplicable, match="16 tokens, no class token before them"):
        Rollout()(seeded(Patches()).eval().double(), X, TARGET)


# Grad-CAM on tokens


def test_grad_cam_of_tokens_computed_by_hand(vit):
    x, target = draw(2, 1, 28, 28), torch.tensor([3, 8])
    seen = []

    def keep(_module, _inputs, output):
        seen.append(output)
        output.retain_grad()

    handle = vit.network.blocks[3].norm1.register_forward_hook(keep)
    vit.network(x).gather(1, target[:, None]).sum().backward()
    handle.remove()
    values, gradient = (
        t[:, 1:].transpose(1, 2).unflatten(2, (7, 7)) for t in (seen[0], seen[0].grad)
    )
    coarse = (gradient.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True).relu().detach()
    coarse = coarse / coarse.amax((2, 3), keepdim=True)
    expected = F.interpolate(coarse, size=(28, 28), mode="bilinear")
    assert vit.cam_layer == "blocks.3.norm1"
    assert relative(GradCAM()(vit, x, target), expected) < 1e-5


def test_grad_cam_names_a_layer_whose_patches_nobody_reads(vit):
    x, target = draw(1, 1, 28, 28), torch.tensor([0])
    with pytest.raises(NotApplicable, match=r"depend on the patches of layer 'blocks.3', only on"):
        GradCAM("blocks.3")(vit, x, target)
    model = small(kind=SmallNet)
    model.network.head = nn.Sequential(nn.Unflatten(1, (4, 2)), nn.Flatten(), model.network.head)
    with pytest.raises(NotApplicable, match=r"'head.0' gave \[1, 4, 2\], of which no 4 tokens"):
        GradCAM("head.0")(model, draw(1, 3, 20, 12), target)


# The transformer that is trained here


def test_blocks_go_from_the_logits_down_and_hold_every_tensor(vit):
    blocks = find_blocks(vit, draw(1, 1, 28, 28))
    stages = [stage.name for stage in find_stages(blocks, "top_down")]
    assert stages == ["head", "blocks.3", "blocks.2", "blocks.1", "blocks.0", "patch_embed"]
    assert {"cls_token", "pos_embed"} <= set(blocks[0].parameters)
    assert set(blocks[-2].modules) == {"blocks.3", "norm"}
    held = [name for block in blocks for name in block.parameters]
    assert sorted(held) == sorted(name for name, _ in vit.network.named_parameters())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_class_token_and_positions_are_randomized(scheme, vit):
    x, network = draw(1, 1, 28, 28), vit.network
    blocks = find_blocks(vit, x)
    kept = {name: value.detach().clone() for name, value in network.named_parameters()}
    with randomized(vit, blocks, Randomization(scheme), seed=1):
        for name in ("cls_token", "pos_embed"):
            now = network.get_parameter(name)
            assert (now != kept[name]).double().mean() > 0.9
            if scheme != "truncated_normal":
                assert now.std().item() == pytest.approx(kept[name].std().item(), rel=0.5)
    assert all(torch.equal(kept[name], value) for name, value in network.named_parameters())


@pytest.mark.parametrize("rule", ["epsilon", "zplus", "alpha_beta"])
def test_relevance_of_the_transformer_is_conserved(rule, vit):
    model, x = vit.double(), draw(2, 1, 28, 28, dtype=DOUBLE)
    target, method = torch.tensor([2, 6]), Lrp(rule)
    total = method(model, x, target).sum((1, 2, 3)) + sum(
        method.absorbed(model, x, target).values()
    )
    assert relative(total, logits_of(model, x).gather(1, target[:, None])[:, 0].detach()) < 1e-6


def test_gradient_of_the_transformer_is_that_of_its_logit(vit):
    x, target = draw(2, 1, 28, 28).requires_grad_(), torch.tensor([2, 6])
    vit.network(x).gather(1, target[:, None]).sum().backward()
    assert relative(Gradient()(vit, x.detach(), target), x.grad) < 1e-5


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet", "rectgrad", "guided_grad_cam"])
def test_methods_with_a_rule_for_rectifiers_are_refused(name, vit):
    with pytest.raises(NotApplicable, match="rectifiers"):
        resolve(name)(vit, draw(1, 1, 28, 28), torch.tensor([0]))


def test_small_transformers_of_tests_are_apt():
    assert isinstance(apt("attention").network, SmallTransformer)
    assert isinstance(apt("gradient").network, SmallNet)
