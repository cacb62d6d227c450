"""The named methods of the literature, put together with the reference code's defaults."""

from saliency_sanity.attribution.attention import Attention, GradientAttention, Rollout
from saliency_sanity.attribution.base import Attribution, Gradient
from saliency_sanity.attribution.competition import Compete
from saliency_sanity.attribution.compose import (
    Colour,
    NoiseAverage,
    NoiseVariance,
    PathAverage,
    Product,
    Rectified,
    ReferenceAverage,
    Squared,
    TimesInput,
)
from saliency_sanity.attribution.controls import Canny, Input, Noise, Sobel  # noqa: F401
from saliency_sanity.attribution.deeplift import Multipliers
from saliency_sanity.attribution.gradcam import GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from saliency_sanity.attribution.lrp import Lrp
from saliency_sanity.attribution.masking import Occlusion, Rise
from saliency_sanity.attribution.rectgrad import Threshold
from saliency_sanity.attribution.rectifiers import Deconv, Guided


def gradient() -> Attribution:
    """Gradient of the logit."""
    return Gradient()


def gradient_x_input(baseline: Colour = None) -> Attribution:
    """Gradient times input."""
    return TimesInput(Gradient(), baseline)


def integrated_gradients(
    steps: int = 50, rule: str = "endpoints", baseline: Colour = None
) -> Attribution:
    """Integrated gradients."""
    return TimesInput(PathAverage(Gradient(), steps, rule, baseline), baseline)


def cgi(top: int = 0, per_channel: bool = True, baseline: Colour = None) -> Attribution:
    """Competitive gradient times input."""
    return Compete(gradient_x_input(baseline), top, per_channel)


def competitive_ig(
    steps: int = 50,
    rule: str = "endpoints",
    top: int = 0,
    per_channel: bool = True,
    baseline: Colour = None,
) -> Attribution:
    """Competitive integrated gradients."""
    return Compete(integrated_gradients(steps, rule, baseline), top, per_channel)


def smoothgrad(samples: int = 50, noise: float = 0.15, seed: int = 0) -> Attribution:
    """SmoothGrad of the gradient."""
    return NoiseAverage(Gradient(), samples, noise, seed)


def vargrad(samples: int = 25, noise: float = 0.15, seed: int = 0) -> Attribution:
    """VarGrad of the gradient."""
    return NoiseVariance(Gradient(), samples, noise, seed)


def ig_smoothgrad(
    samples: int = 25,
    noise: float = 0.15,
    steps: int = 50,
    rule: str = "endpoints",
    baseline: Colour = None,
    seed: int = 0,
) -> Attribution:
    """Smoothed integrated gradients."""
    return NoiseAverage(integrated_gradients(steps, rule, baseline), samples, noise, seed)


def guided_backprop() -> Attribution:
    """Guided backpropagation."""
    return Rectified(Gradient(), Guided())


def modified_rectgrad(
    q: float = 98.0, padding_trick: bool = False, proportional: bool = False
) -> Attribution:
    """RectGrad without its final product with the input."""
    return Rectified(
        Gradient(), Threshold(q=q, padding_trick=padding_trick, proportional=proportional)
    )


def rectgrad(
    q: float = 98.0,
    padding_trick: bool = False,
    proportional: bool = False,
    baseline: Colour = None,
) -> Attribution:
    """RectGrad."""
    return TimesInput(modified_rectgrad(q, padding_trick, proportional), baseline)


def deconvnet() -> Attribution:
    """DeconvNet."""
    return Rectified(Gradient(), Deconv())


def grad_cam(layer: str | None = None) -> Attribution:
    """Grad-CAM."""
    return GradCAM(layer)


def guided_grad_cam(layer: str | None = None) -> Attribution:
    """Guided Grad-CAM."""
    return Product(guided_backprop(), GradCAM(layer))


def attention() -> Attribution:
    """Attention of the class token in the last block."""
    return Attention()


def attention_rollout() -> Attribution:
    """Attention handed down through all blocks."""
    return Rollout()


def gradient_x_attention() -> Attribution:
    """Attention times its gradient, handed down through all blocks."""
    return GradientAttention()


def lrp_epsilon(epsilon: float = 1e-6, input_rule: str = "same") -> Attribution:
    """Layer-wise relevance propagation, shares in proportion to contributions."""
    return Lrp("epsilon", input_rule, epsilon)


def competitive_lrp(
    epsilon: float = 1e-6, input_rule: str = "same", top: int = 0, per_channel: bool = True
) -> Attribution:
    """Competitive layer-wise relevance propagation."""
    return Compete(lrp_epsilon(epsilon, input_rule), top, per_channel)


def lrp_zplus(input_rule: str = "same") -> Attribution:
    """Layer-wise relevance propagation, positive contributions only."""
    return Lrp("zplus", input_rule)


def lrp_alpha_beta(alpha: float = 2.0, input_rule: str = "same") -> Attribution:
    """Layer-wise relevance propagation, positive and negative contributions weighed apart."""
    return Lrp("alpha_beta", input_rule, alpha=alpha)


def smoothgrad_squared(samples: int = 50, noise: float = 0.15, seed: int = 0) -> Attribution:
    """SmoothGrad-Squared of the gradient."""
    return NoiseAverage(Squared(Gradient()), samples, noise, seed)


def expected_gradients(samples: int = 50, seed: int = 0) -> Attribution:
    """Expected gradients over flat references in the picture's own colours."""
    return ReferenceAverage(Gradient(), samples, seed)


def deeplift(baseline: Colour = None) -> Attribution:
    """DeepLIFT by the rescale rule."""
    return TimesInput(Multipliers(baseline), baseline)


def grad_cam_plus_plus(layer: str | None = None) -> Attribution:
    """Grad-CAM++."""
    return GradCAMPlusPlus(layer)


def layer_cam(layer: str | None = None) -> Attribution:
    """LayerCAM."""
    return LayerCAM(layer)


def score_cam(layer: str | None = None, baseline: Colour = None) -> Attribution:
    """Score-CAM."""
    return ScoreCAM(layer, baseline=baseline)


def occlusion(
    window: float = 0.125, stride: float = 0.0625, baseline: Colour = None
) -> Attribution:
    """Occlusion by a window that moves over the picture."""
    return Occlusion(window, stride, baseline)


def rise(
    masks: int = 2000, grid: int = 8, keep: float = 0.5, baseline: Colour = None, seed: int = 0
) -> Attribution:
    """RISE."""
    return Rise(masks, grid, keep, baseline, seed)


def input_x_noise(seed: int = 0) -> Attribution:
    """Input times noise."""
    return TimesInput(Noise(seed))
