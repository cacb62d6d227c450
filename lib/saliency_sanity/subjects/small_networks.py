"""The networks this project trains.

The papers' CNN and MLP, and for small pictures an Inception v3 and a vision transformer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_sanity._errors import unknown
from saliency_sanity._random import generator, seeded
from saliency_sanity.networks.classifier import Scaling
from saliency_sanity.networks.compat import ensure_torchvision

# Spread of the small networks' truncated normals before the cut at two of it.
_CNN_STD, _CNN_BIAS = 0.1, 0.1

# The transformer's patches in pixels, and the spread of what is added to its tokens.
_PATCH, _TOKEN_STD = 4, 0.02
_TOKENS = {"cls_token", "pos_embed"}


class Hidden(nn.Module):
    """A layer and its ReLU as one block, so that the block's output is what the next one sees."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.relu(self.layer(x))


class CNN(nn.Module):
    """Two 5x5 convolutions, each pooled by two, and 1024 hidden units; logits ``[N, classes]``.

    Takes ``[N, channels, size, size]``; ``size`` is a multiple of four. Raises ValueError for
    another size. [adebayo2018sanity], appendix B; [adebayo2018code], ``train_cnn_models.py``
    """

    def __init__(self, size: int = 28, channels: int = 1, classes: int = 10):
        if size < 4 or size % 4:
            raise ValueError(f"size {size} of the CNN's pictures must be a multiple of 4")
        super().__init__()
        self.hidden1 = Hidden(nn.Conv2d(channels, 32, 5, padding=2))
        self.hidden2 = Hidden(nn.Conv2d(32, 64, 5, padding=2))
        self.fc1 = Hidden(nn.Linear(64 * (size // 4) ** 2, 1024))
        self.softmax_linear = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = F.max_pool2d(self.hidden1(x), 2)
        x = F.max_pool2d(self.hidden2(x), 2)
        return self.softmax_linear(self.fc1(x.flatten(1)))


class MLP(nn.Module):
    """Hidden layers of 2500, 1500 and 500 units; logits ``[N, classes]``.

    Takes ``[N, channels, size, size]``. [adebayo2018sanity], appendix B; [adebayo2018code],
    ``train_mlp_models.py``
    """

    def __init__(self, size: int = 28, channels: int = 1, classes: int = 10):
        super().__init__()
        self.hidden1 = Hidden(nn.Linear(channels * size * size, 2500))
        self.hidden2 = Hidden(nn.Linear(2500, 1500))
        self.hidden3 = Hidden(nn.Linear(1500, 500))
        self.logits = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.logits(self.hidden3(self.hidden2(self.hidden1(x.flatten(1)))))


def _inception_v3(size: int, channels: int, classes: int) -> nn.Module:
    if channels != 3:
        raise ValueError(f"inception_v3 takes 3 channels, not {channels}")
    if size < 75:
        raise ValueError(f"size {size}: inception_v3 takes pictures of 75 pixels or more")
    ensure_torchvision()
    from torchvision.models import inception_v3

    return inception_v3(
        weights=None,
        num_classes=classes,
        aux_logits=False,
        transform_input=False,
        init_weights=False,
    )


def _vit(size: int, channels: int, classes: int) -> nn.Module:
    """A vision transformer of timm's with a class token. [dosovitskiy2021image]."""
    if size < _PATCH or size % _PATCH:
        raise ValueError(
            f"size {size} of the transformer's pictures must be a multiple of its patch, {_PATCH}"
        )
    ensure_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=size,
        patch_size=_PATCH,
        in_chans=channels,
        num_classes=classes,
        embed_dim=64,
        depth=4,
        num_heads=4,
        mlp_ratio=2,
    )


@dataclass(frozen=True)
class Trainable:
    """What belongs to a network that can be trained here, beside its weights.

    ``std`` and ``bias`` are those of its initialiser: ``std(fan_in)`` is the spread of the
    truncated normal before the cut at two of it.
    """

    build: Callable[..., nn.Module]
    size: int
    channels: int
    scaling: Scaling
    cam_layer: str | None
    std: Callable[[int], float]
    bias: float


def slim_std(fan_in: int) -> float:
    """Spread of TF-slim's variance scaling (fan-in, factor 2) before the cut at two of it.

    The 1.3 undoes what the cut takes from the variance. [adebayo2018code], ``inception_v3.py``
    """
    return math.sqrt(1.3 * 2 / fan_in)


TRAINABLE = {
    "inception_v3": Trainable(
        # At 75 px Mixed_7c has one place left; Mixed_5d has 7 x 7, as Mixed_7c has 8 x 8 at 299 px.
        *(_inception_v3, 75, 3, Scaling((0.5,) * 3, (0.5,) * 3), "Mixed_5d", slim_std, 0.0)
    ),
    "vit": Trainable(
        # Only the class token leaves the last block, so the norm before its attention is the last
        # layer whose patches act on the logits.
        *(_vit, 28, 1, Scaling((0.0,), (1.0,)), "blocks.3.norm1"),
        *(lambda fan_in: 1 / math.sqrt(fan_in), 0.0),
    ),
    "cnn": Trainable(CNN, 28, 1, Scaling((0.0,), (1.0,)), "hidden2", lambda _: _CNN_STD, _CNN_BIAS),
    "mlp": Trainable(
        MLP, 28, 1, Scaling((0.0,), (1.0,)), None, lambda fan_in: 2 / math.sqrt(fan_in), 0.0
    ),
}


def build_untrained(
    name: str, seed: int, *, size: int = 0, channels: int = 0, classes: int = 10
) -> nn.Module:
    """Build a network of ``TRAINABLE`` with random weights, drawn as its paper's code draws them.

    ``size`` and ``channels`` of its pictures are by default those it is trained on. Depends on
    the arguments alone; each tensor has a generator of its own. Raises ValueError for an unknown
    name or a size the network cannot take.
    """
    if name not in TRAINABLE:
        raise ValueError(unknown("network to train", name, TRAINABLE))
    kind = TRAINABLE[name]
    # Without memory first: the constructors draw from the global generator, and slowly.
    with seeded(seed), torch.device("meta"):
        network = kind.build(size or kind.size, channels or kind.channels, classes)
    return initialize(network.to_empty(device="cpu"), seed, kind.std, kind.bias).eval()


@torch.no_grad()
def initialize(
    network: nn.Module, seed: int, std: Callable[[int], float] = slim_std, bias: float = 0.0
) -> nn.Module:
    """Redraw every tensor of a network of convolutions, linear layers and norms, in place.

    Weights are truncated normals cut at twice ``std(fan_in)``, biases ``bias``; norms get weight 1,
    bias 0, mean 0 and variance 1; a transformer's class token and positions are truncated normals
    of spread 0.02. Raises TypeError for a layer of another kind that has tensors.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            spread = std(fan_in)
            random = generator(seed, "untrained", name)
            nn.init.trunc_normal_(module.weight, 0, spread, -2 * spread, 2 * spread, random)
            if module.bias is not None:
                module.bias.fill_(bias)
            continue
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
            continue
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for key, tensor in own:
            if key not in _TOKENS:
                raise TypeError(
                    f"{name} is a {type(module).__name__}, for which there is no initialiser here; "
                    "valid are Conv2d, Linear, BatchNorm2d and LayerNorm"
                )
            random = generator(seed, "untrained", f"{name}.{key}")
            nn.init.trunc_normal_(tensor, 0, _TOKEN_STD, -2 * _TOKEN_STD, 2 * _TOKEN_STD, random)
    return network
