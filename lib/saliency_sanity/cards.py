"""The cards of all methods and controls of the catalogue."""

from saliency_sanity import compositions
from saliency_sanity.card import Card
from saliency_sanity.controls import Canny, Input, Noise, Sobel

_ZERO = "the network's zero (reference code); a raw colour in [0, 1] by choice"
_ENDPOINTS = "endpoints (reference code): equidistant, both ends counted in full"
_NOISE = "0.15 of each image's range (reference code)"
_SEED = "0 (ours; the reference code sets none)"
_TOP = "0: all labels of the network (the paper); m for the m with the largest logits"
_PER_CHANNEL = "True (ours; the sources leave it open): each channel competes for itself"
_LAYER = "the network's last feature maps; Mixed_7c of Inception v3 (reference code)"
_LRP = ("bach2015pixel", "montavon2017explaining", "anders2021zennit")
_Q = "98 (reference code): the percentile that a unit has to exceed"
_TRICK = "False (ours; the reference code has it on): clear the ring of padded convolutions"
_PROPORTIONAL = "False (reference code): max pools hand on to the largest alone"
_INPUT_RULE = "same: as in all layers (ours); z, zbox, wsquare or flat by choice"
_COMPETES = (
    r"E_i = \begin{cases} H_{ic} & H_{ic} > 0,\ H_{ic} = \max_l H_{il}"
    r"\ \text{ or }\ H_{ic} < 0,\ H_{ic} = \min_l H_{il} \\ 0 & \text{else} \end{cases},"
    r"\quad H_l = "
)
_RECTIFIED = (
    r"R^{l} = \mathbb 1[f^{l} \odot R^{l+1} > \tau_q]\; R^{l+1}\ \text{ at every rectifier}"
)

CARDS = (
    Card(
        name="gradient",
        title="Gradient",
        abbreviation="G",
        kind="method",
        formula=r"E = \frac{\partial S_c}{\partial x}",
        summary="How the logit would change with each pixel. The part all others are built of.",
        sources=("simonyan2014deep", "adebayo2018sanity"),
        build=compositions.gradient,
    ),
    Card(
        name="gradient_x_input",
        title="Gradient ⊙ input",
        abbreviation="G⊙I",
        kind="method",
        formula=r"E = (x - \bar x) \odot \frac{\partial S_c}{\partial x}",
        summary="The gradient weighted by the pixel itself. Blind where the input equals the "
        "baseline, and shaped by the picture wherever it does not.",
        sources=("shrikumar2017deeplift", "adebayo2018sanity"),
        build=compositions.gradient_x_input,
        needs=("baseline",),
        defaults={"baseline": _ZERO},
    ),
    Card(
        name="integrated_gradients",
        title="Integrated gradients",
        abbreviation="IG",
        kind="method",
        formula=r"E = (x - \bar x) \odot \int_0^1 \frac{\partial S_c}{\partial x}"
        r"\big(\bar x + \alpha (x - \bar x)\big)\, d\alpha",
        summary="The gradient averaged on the way from a baseline to the picture, times that way. "
        "The map sums to the change of the logit, up to the error of the quadrature.",
        sources=("sundararajan2017axiomatic", "adebayo2018sanity"),
        build=compositions.integrated_gradients,
        needs=("baseline",),
        defaults={"steps": "50 (reference code)", "rule": _ENDPOINTS, "baseline": _ZERO},
    ),
    Card(
        name="smoothgrad",
        title="SmoothGrad",
        abbreviation="SG",
        kind="method",
        formula=r"E = \frac1N \sum_{i=1}^N \frac{\partial S_c}{\partial x}(x + g_i),"
        r"\quad g_i \sim \mathcal N(0, \sigma^2)",
        summary="The gradient averaged over noisy copies of the picture. With one noise-free "
        "sample it is the gradient.",
        sources=("smilkov2017smoothgrad", "adebayo2018sanity"),
        build=compositions.smoothgrad,
        defaults={"samples": "50 (reference code)", "noise": _NOISE, "seed": _SEED},
    ),
    Card(
        name="vargrad",
        title="VarGrad",
        abbreviation="VG",
        kind="method",
        formula=r"E = \frac1N \sum_{i=1}^N \Big(\frac{\partial S_c}{\partial x}(x + g_i) "
        r"- \frac1N \sum_{k=1}^N \frac{\partial S_c}{\partial x}(x + g_k)\Big)^2",
        summary="How much the gradient varies over noisy copies of the picture. Never negative.",
        sources=("adebayo2018local", "adebayo2018sanity"),
        build=compositions.vargrad,
        signed=False,
        defaults={"samples": "25 (reference code)", "noise": _NOISE, "seed": _SEED},
    ),
    Card(
        name="ig_smoothgrad",
        title="Integrated gradients, SmoothGrad",
        abbreviation="IG-SG",
        kind="method",
        formula=r"E = \frac1N \sum_{i=1}^N E_{\mathrm{IG}}(x + g_i),"
        r"\quad g_i \sim \mathcal N(0, \sigma^2)",
        summary="Integrated gradients averaged over noisy copies of the picture.",
        sources=("smilkov2017smoothgrad", "sundararajan2017axiomatic", "adebayo2018sanity"),
        build=compositions.ig_smoothgrad,
        needs=("baseline",),
        defaults={
            "samples": "25 (library default in the reference notebooks; its script uses 50)",
            "noise": _NOISE,
            "steps": "50 (reference code)",
            "rule": _ENDPOINTS,
            "baseline": _ZERO,
            "seed": _SEED,
        },
    ),
    Card(
        name="guided_backprop",
        title="Guided backpropagation",
        abbreviation="GBP",
        kind="method",
        formula=r"R^{l} = \mathbb 1[R^{l+1} > 0]\; \mathbb 1[f^{l} > 0]\; R^{l+1}"
        r"\ \text{ at every rectifier}",
        summary="The gradient with every negative signal cut off at every rectifier on its way "
        "down. Sharp, and close to a partial recovery of the picture.",
        sources=("springenberg2015striving", "adebayo2018sanity"),
        build=compositions.guided_backprop,
        needs=("relu",),
    ),
    Card(
        name="deconvnet",
        title="DeconvNet",
        abbreviation="DCN",
        kind="method",
        formula=r"R^{l} = \mathbb 1[R^{l+1} > 0]\; R^{l+1}\ \text{ at every rectifier}",
        summary="As guided backpropagation, but blind to which units were active.",
        sources=("zeiler2014visualizing",),
        build=compositions.deconvnet,
        needs=("relu",),
    ),
    Card(
        name="rectgrad",
        title="RectGrad",
        abbreviation="RG",
        kind="method",
        formula=r"E = (x - \bar x) \odot R^0,\quad " + _RECTIFIED,
        summary="As guided backpropagation, but only the few strongest signals of each layer go "
        "on: those whose product with the activation exceeds the layer's q-th percentile. Then "
        "times the input.",
        sources=("kim2019rectgrad", "kim2019code"),
        build=compositions.rectgrad,
        needs=("relu", "baseline"),
        defaults={
            "q": _Q,
            "padding_trick": _TRICK,
            "proportional": _PROPORTIONAL,
            "baseline": _ZERO,
        },
    ),
    Card(
        name="modified_rectgrad",
        title="RectGrad, without ⊙ input",
        abbreviation="RGm",
        kind="method",
        formula=r"E = R^0,\quad " + _RECTIFIED,
        summary="RectGrad without the last product, so that no colour is out of sight.",
        sources=("brocki2020input", "kim2019rectgrad"),
        build=compositions.modified_rectgrad,
        needs=("relu",),
        defaults={"q": _Q, "padding_trick": _TRICK, "proportional": _PROPORTIONAL},
    ),
    Card(
        name="grad_cam",
        title="Grad-CAM",
        abbreviation="GC",
        kind="method",
        formula=r"E = \mathrm{ReLU}\Big(\sum_k \alpha_k A^k\Big),\quad "
        r"\alpha_k = \frac1{hw} \sum_{ij} \frac{\partial S_c}{\partial A^k_{ij}}",
        summary="Where the last feature maps speak for the class; coarse, smooth, resized to the "
        "picture and divided by its maximum.",
        sources=("selvaraju2017gradcam", "adebayo2018sanity"),
        build=compositions.grad_cam,
        signed=False,
        needs=("layer",),
        defaults={"layer": _LAYER},
    ),
    Card(
        name="guided_grad_cam",
        title="Guided Grad-CAM",
        abbreviation="GGC",
        kind="method",
        formula=r"E = E_{\mathrm{GBP}} \odot E_{\mathrm{GC}}",
        summary="Guided backpropagation, seen through Grad-CAM's window.",
        sources=("selvaraju2017gradcam", "adebayo2018sanity"),
        build=compositions.guided_grad_cam,
        needs=("relu", "layer"),
        defaults={"layer": _LAYER},
    ),
    Card(
        name="cgi",
        title="Competitive gradient ⊙ input",
        abbreviation="CGI",
        kind="method",
        formula=_COMPETES + r"(x - \bar x) \odot \frac{\partial S_l}{\partial x}",
        summary="Gradient ⊙ input where no other label's is stronger for, or against, and zero "
        "elsewhere: pixels that speak for many labels speak for none.",
        sources=("gupta2019simple",),
        build=compositions.cgi,
        needs=("baseline",),
        defaults={"top": _TOP, "per_channel": _PER_CHANNEL, "baseline": _ZERO},
    ),
    Card(
        name="competitive_ig",
        title="Competitive integrated gradients",
        abbreviation="CIG",
        kind="method",
        formula=_COMPETES + r"E_{\mathrm{IG}, l}",
        summary="The same competition between the integrated gradients of all labels.",
        sources=("gupta2019simple", "sundararajan2017axiomatic"),
        build=compositions.competitive_ig,
        needs=("baseline",),
        defaults={
            "steps": "50 (as integrated gradients)",
            "rule": _ENDPOINTS,
            "top": _TOP,
            "per_channel": _PER_CHANNEL,
            "baseline": _ZERO,
        },
    ),
    Card(
        *("lrp_epsilon", "LRP-ε", "LRP-ε", "method"),
        formula=r"R_i^l = \sum_j \frac{z_{ij}}{z_j + \varepsilon\,\mathrm{sign}\,z_j} R_j^{l+1},"
        r"\quad z_{ij} = x_i^l w_{ij},\quad z_j = b_j + \sum_i z_{ij},\quad R^L = S_c",
        summary="The logit handed down from layer to layer, to each unit in proportion to what it "
        "contributed. With ε towards 0 this is gradient ⊙ input.",
        sources=_LRP,
        build=compositions.lrp_epsilon,
        needs=("relu", "modules"),
        defaults={"epsilon": "1e-06 (the default of zennit)", "input_rule": _INPUT_RULE},
    ),
    Card(
        *("competitive_lrp", "Competitive LRP-ε", "CLRP", "method"),
        formula=_COMPETES + r"E_{\mathrm{LRP}, l}",
        summary="The same competition between the LRP-ε maps of all labels.",
        sources=("gupta2019simple", *_LRP),
        build=compositions.competitive_lrp,
        needs=("relu", "modules"),
        defaults={
            "epsilon": "1e-06 (as LRP-ε)",
            "input_rule": _INPUT_RULE,
            "top": _TOP,
            "per_channel": _PER_CHANNEL,
        },
    ),
    Card(
        *("lrp_zplus", "LRP-z⁺", "LRP-z⁺", "method"),
        formula=r"R_i^l = \sum_j \frac{z_{ij}^+}{b_j^+ + \sum_k z_{kj}^+}\, R_j^{l+1}",
        summary="The logit handed down to what contributed with a plus sign, and to nothing else. "
        "Without skip connections a map has one sign, that of its logit.",
        sources=_LRP,
        build=compositions.lrp_zplus,
        needs=("relu", "modules"),
        defaults={"input_rule": _INPUT_RULE},
    ),
    Card(
        *("lrp_alpha_beta", "LRP-αβ", "LRP-αβ", "method"),
        formula=r"R_i^l = \sum_j \Big(\frac{\alpha\, z_{ij}^+}{b_j^+ + \sum_k z_{kj}^+}"
        r" - \frac{(\alpha - 1)\, z_{ij}^-}{b_j^- + \sum_k z_{kj}^-}\Big) R_j^{l+1}",
        summary="As LRP-z⁺, but what contributed with a minus sign gets relevance of the other "
        "sign, and what contributed with a plus sign as much more.",
        sources=_LRP,
        build=compositions.lrp_alpha_beta,
        needs=("relu", "modules"),
        defaults={"alpha": "2 (its authors); beta is 1 less", "input_rule": _INPUT_RULE},
    ),
    Card(
        *("sobel", "Sobel edges", "Sobel", "control"),
        formula=r"E = \sqrt{\big((s_x * L)^2 + (s_y * L)^2\big) / 2}",
        summary="The size of the luminance's gradient: an edge detector that has never seen the "
        "network. Picture-driven by construction.",
        sources=("sobel1968isotropic",),
        build=Sobel,
        signed=False,
    ),
    Card(
        *("canny", "Canny edges", "Canny", "control"),
        formula=r"E = \mathbb 1[\text{thinned, linked edge of } G_\sigma * L]",
        summary="Thin binary edges of the luminance. Picture-driven by construction.",
        sources=("canny1986computational",),
        build=Canny,
        signed=False,
        defaults={"sigma": "2 pixels (ours)"},
    ),
    Card(
        *("input", "The input", "x", "control"),
        formula=r"E = x",
        summary="The picture as its own explanation. Picture-driven by construction.",
        sources=(),
        build=Input,
    ),
    Card(
        *("noise", "Noise", "n", "control"),
        formula=r"E = n_\theta,\quad n_\theta \sim \mathcal N(0, 1)",
        summary="Noise seeded by the network's weights, the same for every picture. "
        "Model-driven by construction, and useless: responding is not explaining.",
        sources=(),
        build=Noise,
        defaults={"seed": _SEED, "per_label": "False: all labels have the same noise"},
    ),
    Card(
        *("input_x_noise", "Input ⊙ noise", "x⊙n", "control"),
        formula=r"E = (x - \bar x) \odot n_\theta",
        summary="What a product with the input looks like when the other factor knows nothing. "
        "Picture-driven in absolute values, model-driven in signs.",
        sources=("adebayo2018sanity",),
        build=compositions.input_x_noise,
        defaults={"seed": _SEED},
    ),
)
