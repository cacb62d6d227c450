"""Methods that several libraries have, set alike: whether their maps are the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from saliency_sanity.networks.classifier import Classifier

# From this difference on, a share of the largest value, two maps are not the same.
SAME = 1e-5

# Methods of other libraries without a row of their own, and why.
OMITTED = {
    "captum:Occlusion": "it has no windows of its own; with the same settings it is a twin",
    "captum:NoiseTunnel": "it is SmoothGrad, with noise in the network's units",
    "zennit:SmoothGrad": "it is SmoothGrad, with other noise",
    "pytorch_grad_cam:RandomCAM": "its weights are drawn: it is a control",
    "pytorch_grad_cam:KPCA_CAM": "it is EigenCAM with a kernel",
    "pytorch_grad_cam:SegEigenCAM": "it is EigenCAM with one step before",
    "captum:DeepLiftShap": "it is DeepLIFT, averaged over references",
    "zennit:EpsilonPlus": "EpsilonPlusFlat has one rule more",
    "zennit:EpsilonAlpha2Beta1": "EpsilonAlpha2Beta1Flat has one rule more",
}


@dataclass(frozen=True)
class Twin:
    """A method of the catalogue and one of another library that are meant to be the same.

    ``settings`` and ``parameters`` make them so, beside what both have by default.
    """

    own: str
    peer: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


def twins(classifier: Classifier) -> list[Twin]:
    """All of them, for a network that sees pictures of its size."""
    window = classifier.size // 2
    channels = len(classifier.scaling.mean)
    share = window / classifier.size
    cam = {"relu_attributions": True, "interpolate_mode": "bilinear"}
    return [
        Twin("gradient", "captum:Saliency", parameters={"abs": False}),
        Twin("gradient", "saliency:GradientSaliency"),
        Twin("gradient", "zennit:Gradient"),
        Twin("gradient_x_input", "captum:InputXGradient"),
        Twin(
            *("integrated_gradients", "captum:IntegratedGradients"),
            {"steps": 4, "rule": "gauss-legendre"},
            {"n_steps": 4, "method": "gausslegendre"},
        ),
        Twin("guided_backprop", "captum:GuidedBackprop"),
        Twin("guided_backprop", "pytorch_grad_cam:GuidedBackpropReLUModel"),
        Twin("guided_backprop", "zennit:GuidedBackprop"),
        Twin("deconvnet", "captum:Deconvolution"),
        Twin("deconvnet", "zennit:DeconvNet"),
        Twin("grad_cam", "captum:LayerGradCam", parameters=cam),
        Twin("grad_cam", "pytorch_grad_cam:GradCAM"),
        Twin("grad_cam", "saliency:GradCam"),
        Twin("grad_cam_plus_plus", "pytorch_grad_cam:GradCAMPlusPlus"),
        Twin("layer_cam", "pytorch_grad_cam:LayerCAM"),
        Twin("score_cam", "pytorch_grad_cam:ScoreCAM"),
        Twin("guided_grad_cam", "captum:GuidedGradCam"),
        Twin("deeplift", "captum:DeepLift"),
        Twin("lrp_epsilon", "captum:LRP", {"epsilon": 1e-9}),
        Twin(
            *("occlusion", "captum:Occlusion"),
            {"window": share, "stride": share},
            {
                "sliding_window_shapes": (channels, window, window),
                "strides": (channels, window, window),
            },
        ),
    ]


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of two maps, a picture's largest value being 1; the worst picture's.

    Maps ``[N, C, H, W]``, of which one may have one channel for all. A positive factor is none: the
    libraries scale some maps, others not.
    """
    ours, theirs = (maps / _largest(maps) for maps in (ours.double(), theirs.double()))
    return float((ours - theirs).abs().max())


def _largest(maps: Tensor) -> Tensor:
    found = maps.abs().amax((1, 2, 3), keepdim=True)
    return found.where(found > 0, 1)
