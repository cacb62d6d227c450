"""Methods of other libraries, cheap enough for tests, and whether they can be had here."""

import importlib.util

import pytest
from saliency_sanity.networks.compat import ensure_torchvision

if importlib.util.find_spec("torchvision"):
    ensure_torchvision()  # which some of the libraries import

LIBRARIES = {
    "captum": "captum",
    "pytorch_grad_cam": "pytorch_grad_cam",
    "saliency": "saliency",
    "zennit": "zennit",
    "shap": "shap",
}
METHODS: dict[str, dict] = {
    "captum:Saliency": {},
    "captum:InputXGradient": {},
    "captum:IntegratedGradients": {"n_steps": 4},
    "captum:GradientShap": {},
    "captum:NoiseTunnel": {"attribution_method": "InputXGradient", "nt_type": "vargrad"},
    "captum:DeepLift": {},
    "captum:DeepLiftShap": {},
    "captum:LRP": {},
    "captum:GuidedBackprop": {},
    "captum:Deconvolution": {},
    "captum:LayerGradCam": {"layer": "first"},
    "captum:GuidedGradCam": {"layer": "first"},
    "captum:Occlusion": {"sliding_window_shapes": (3, 8, 8), "strides": (3, 4, 4)},
    "captum:FeatureAblation": {"feature_mask": 6},
    "captum:ShapleyValueSampling": {"feature_mask": 6, "n_samples": 3},
    "captum:KernelShap": {"feature_mask": 6, "n_samples": 20},
    "captum:Lime": {"feature_mask": 6, "n_samples": 20},
    "pytorch_grad_cam:GradCAM": {"layer": "first"},
    "pytorch_grad_cam:GradCAMPlusPlus": {},
    "pytorch_grad_cam:GradCAMElementWise": {"layer": "first"},
    "pytorch_grad_cam:HiResCAM": {"layer": "first"},
    "pytorch_grad_cam:LayerCAM": {"layer": "first"},
    "pytorch_grad_cam:XGradCAM": {"layer": "first"},
    "pytorch_grad_cam:ScoreCAM": {},
    "pytorch_grad_cam:AblationCAM": {},
    "pytorch_grad_cam:EigenCAM": {},
    "pytorch_grad_cam:EigenGradCAM": {"eigen_smooth": False},
    "pytorch_grad_cam:KPCA_CAM": {},
    "pytorch_grad_cam:SegEigenCAM": {},
    "pytorch_grad_cam:ShapleyCAM": {"layer": "first"},
    "pytorch_grad_cam:FEM": {},
    "pytorch_grad_cam:RandomCAM": {},
    "pytorch_grad_cam:FullGrad": {},
    "pytorch_grad_cam:GuidedBackpropReLUModel": {},
    "saliency:GradientSaliency": {},
    "saliency:IntegratedGradients": {"x_steps": 3},
    "saliency:GuidedIG": {"x_steps": 5},
    "saliency:BlurIG": {"steps": 3},
    "saliency:XRAI": {"steps": 2, "algorithm": "fast"},
    "saliency:GradCam": {"layer": "first"},
    "saliency:Occlusion": {"size": 9},
    "zennit:EpsilonPlus": {},
    "zennit:EpsilonPlusFlat": {"canonizers": ["SequentialMergeBatchNorm"]},
    "zennit:EpsilonAlpha2Beta1": {},
    "zennit:EpsilonAlpha2Beta1Flat": {},
    "zennit:EpsilonGammaBox": {"gamma": 0.5},
    "zennit:ExcitationBackprop": {},
    "zennit:BetaSmooth": {},
    "zennit:DeconvNet": {},
    "zennit:GuidedBackprop": {},
    "zennit:Gradient": {},
    "zennit:SmoothGrad": {"n_iter": 3},
    "zennit:IntegratedGradients": {"n_iter": 3},
    "zennit:Occlusion": {"window": 4, "stride": 4},
    "shap:GradientExplainer": {"nsamples": 5},
    "shap:DeepExplainer": {},
    "shap:PartitionExplainer": {"max_evals": 20},
}


def installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def _marks(name: str) -> list:
    needed = [name.partition(":")[0]]
    needed += ["sklearn"] if name in ("captum:KernelShap", "captum:Lime") else []
    missing = [library for library in needed if not installed(library)]
    return [pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")]


def each(names=METHODS) -> list:
    """Names as parameters of a test, skipped with the reason where the library is missing."""
    return [pytest.param(name, marks=_marks(name), id=name) for name in names]


def needs(library: str):
    return pytest.mark.skipif(not installed(library), reason=f"{library} is not installed")
