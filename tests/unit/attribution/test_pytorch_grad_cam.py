"""pytorch-grad-cam as an independent oracle of coarse maps, before either resizes them."""

import pytest
import torch
from made.networks import draw, relative
from saliency_sanity.attribution.gradcam import GradCAM, GradCAMPlusPlus, LayerCAM
from torch import nn

TARGET = torch.tensor([3, 71])


class Times(nn.Module):
    """Logits so large that what the library adds to a denominator is nothing beside it."""

    def __init__(self, model, factor=1e4):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x):
        return self.factor * self.model(x)


@pytest.mark.parametrize("kind", [GradCAM, GradCAMPlusPlus, LayerCAM], ids=lambda one: one.__name__)
@pytest.mark.parametrize("layer", ["layer3", "layer4"])
def test_coarse_map(kind, layer, resnet_double):
    library = pytest.importorskip("pytorch_grad_cam")
    model, x = Times(resnet_double).eval(), draw(2, 3, 96, 96, dtype=torch.float64)
    path = f"model.network.{layer}"
    with getattr(library, kind.__name__)(model, [model.get_submodule(path)]) as cam:
        cam.activations_and_grads(x.clone().requires_grad_()).gather(
            1, TARGET[:, None]
        ).sum().backward()
        seen = cam.activations_and_grads
        given = seen.activations[0].numpy(), seen.gradients[0].numpy()
        coarse = cam.get_cam_image(x, model.get_submodule(path), None, *given, False)
    expected = torch.from_numpy(coarse).clamp_min(0)[:, None]
    assert expected.amax((1, 2, 3)).min() > 0
    # Resized to the pictures as ours is.
    expected = nn.functional.interpolate(expected, size=x.shape[2:], mode="bilinear")
    assert relative(kind(path, unit=False)(model, x, TARGET), expected) < 1e-5
