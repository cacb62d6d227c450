"""Numbers of [adebayo2018code] that our own are set beside, each with what it is worth."""

from collections.abc import Mapping
from dataclasses import dataclass

_SMALL = ("softmax_linear", "fc1", "hidden2", "hidden1")
_PERCEPTRON = ("logits", "hidden3", "hidden2", "hidden1")
_INCEPTION = (
    *("logits", "mixed_7c", "mixed_7b", "mixed_7a", "mixed_6e", "mixed_6d", "mixed_6c"),
    *("mixed_6b", "mixed_6a", "mixed_5d", "mixed_5c", "mixed_5b", "conv2d_4a_3x3"),
    *("conv2d_3b_1x1", "conv2d_2b_3x3", "conv2d_2a_3x3", "conv2d_1a_3x3"),
)

# The one stage of a comparison of true with permuted labels.
PERMUTED = "permuted labels"

# G, SG, GBP, …: our names of their methods.
_NAMES = {
    "G": "gradient",
    "SG": "smoothgrad",
    "GBP": "guided_backprop",
    "GC": "grad_cam",
    "GGC": "guided_grad_cam",
    "IG": "integrated_gradients",
    "IG-SG": "ig_smoothgrad",
    "GxI": "gradient_x_input",
}

Curve = tuple[float | None, ...]


@dataclass(frozen=True)
class Published:
    """Similarities by stage that a run of the paper's authors gave.

    ``curves[method, metric]`` has a value for each of ``stages``, None where it cannot be read.
    ``subject`` says which network and pictures, in ``brief`` words too, ``precision`` how well a
    value is known.
    """

    subject: str
    brief: str
    source: str
    precision: str
    stages: tuple[str, ...]
    curves: Mapping[tuple[str, str], Curve]

    def value(self, method: str, metric: str, stage: str) -> float | None:
        """The similarity at a stage; None where there is none."""
        curve = self.curves.get((method, metric))
        return (
            None if curve is None or stage not in self.stages else curve[self.stages.index(stage)]
        )


def _curves(metric: str, values: Mapping[str, Curve]) -> dict[tuple[str, str], Curve]:
    return {(_NAMES[name], metric): curve for name, curve in values.items()}


def published(model: str, order: str) -> Published | None:
    """What was published for a network of this name under this order; None where nothing was."""
    return _PUBLISHED.get((model, order))


def published_labels(network: str, dataset: str) -> Published | None:
    """What was published for true against permuted labels, at the one stage ``PERMUTED``.

    ``network`` and ``dataset`` as in the catalogue of trained networks; None for any other pair.
    """
    subject = (network, dataset)
    if subject not in _LABEL_SUBJECTS:
        return None
    place = list(_LABEL_SUBJECTS).index(subject)
    brief, figure, spread = _LABEL_SUBJECTS[subject]
    values = {name: row[place] for name, row in _LABELS.items() if row[place] is not None}
    return Published(
        f"{brief}, true against random labels; the number of images is not stated",
        brief,
        f"Adebayo et al. 2018, figure {figure}",
        f"read from bars, ±0.02; error bars about {spread} by absolute ranks, 0.2 to 0.35 by "
        "signed ones",
        (PERMUTED,),
        _curves("spearman_abs", {name: (row[0],) for name, row in values.items()})
        | _curves("spearman_signed", {name: (row[1],) for name, row in values.items()}),
    )


# Network and data set: in words, the figure, half widths of the error bars.
_LABEL_SUBJECTS = {
    ("cnn", "mnist"): ("a CNN on MNIST", 22, "0.03 to 0.07 (Grad-CAM 0.27, IG and G⊙I below 0.01)"),
    ("mlp", "mnist"): ("an MLP on MNIST", 23, "0.03 to 0.07 (IG and G⊙I below 0.01)"),
    ("cnn", "fashion_mnist"): (
        *("a CNN on Fashion-MNIST", 24),
        "0.03 to 0.07 (Grad-CAM 0.22, IG and G⊙I 0.09)",
    ),
    ("mlp", "fashion_mnist"): ("an MLP on Fashion-MNIST", 25, "0.03 to 0.07 (IG and G⊙I 0.09)"),
}

# Absolute and signed, in the order of the subjects; what is drawn as no bar at all is 0.
_LABELS = {
    "G": ((0.16, 0.09), (0.60, 0.11), (0.07, 0.02), (0.15, 0.00)),
    "SG": ((0.24, 0.10), (0.59, 0.11), (0.08, 0.03), (0.15, -0.02)),
    "GBP": ((0.56, 0.12), (0.69, 0.19), (0.55, 0.07), (0.28, 0.17)),
    "GC": ((0.02, 0.01), None, (-0.05, 0.07), None),
    "GGC": ((0.56, 0.12), None, (0.55, 0.07), None),
    "IG": ((0.99, 0.13), (0.99, 0.10), (0.89, 0.05), (0.89, 0.00)),
    "IG-SG": ((0.45, 0.12), (0.80, 0.07), (0.55, 0.05), (0.66, 0.00)),
    "GxI": ((0.99, 0.13), (0.99, 0.09), (0.89, 0.02), (0.89, 0.00)),
}

_PUBLISHED = {
    ("cnn", "top_down"): Published(
        "a CNN on MNIST, the first 10 test digits, one random network",
        "10 digits of MNIST",
        "Adebayo et al. 2018, code: cnn_mnist_cascading_randomization.ipynb",
        "absolute ranks as printed; signed ranks read from the plot, ±0.03",
        _SMALL,
        _curves(
            "spearman_abs",
            {
                "G": (0.601, 0.396, 0.106, 0.082),
                "SG": (0.536, 0.330, 0.180, 0.213),
                "GBP": (0.888, 0.773, 0.628, 0.444),
                "GC": (0.556, 0.344, 0.290, 0.299),
                "GGC": (0.555, 0.359, 0.329, 0.282),
                "IG": (0.994, 0.993, 0.993, 0.992),
                "IG-SG": (0.577, 0.429, 0.379, 0.361),
                "GxI": (0.993, 0.993, 0.993, 0.992),
            },
        )
        | _curves(
            "spearman_signed",
            {
                "G": (0.28, 0.06, -0.01, 0.02),
                "SG": (0.29, 0.10, -0.02, 0.01),
                "GBP": (0.89, 0.76, 0.64, 0.35),
                "GC": (0.55, 0.34, 0.29, 0.29),
                "GGC": (0.61, 0.37, 0.43, 0.20),
                "IG": (0.28, 0.17, 0.01, 0.03),
                "GxI": (0.26, 0.15, 0.02, 0.06),
            },
        ),
    ),
    ("mlp", "top_down"): Published(
        "an MLP on MNIST, the first 10 test digits, one random network",
        "10 digits of MNIST",
        "Adebayo et al. 2018, code: mlp_mnist_cascading_randomization.ipynb",
        "absolute ranks as printed; signed ranks read from the plot, ±0.03",
        _PERCEPTRON,
        _curves(
            "spearman_abs",
            {
                "G": (0.234, 0.099, 0.015, 0.020),
                "SG": (0.255, 0.124, 0.007, 0.025),
                "GBP": (0.903, 0.823, 0.439, 0.044),
                "IG": (0.994, 0.993, 0.992, 0.993),
                "IG-SG": (0.407, 0.368, 0.335, 0.345),
                "GxI": (0.994, 0.993, 0.992, 0.993),
            },
        )
        | _curves(
            "spearman_signed",
            {
                "G": (0.44, 0.21, 0.02, 0.00),
                "SG": (0.46, 0.26, 0.03, 0.00),
                "GBP": (0.97, 0.93, 0.70, 0.17),
                "IG": (0.28, 0.11, 0.02, 0.03),
                "GxI": (0.27, 0.11, 0.02, 0.05),
            },
        ),
    ),
    ("cnn", "independent"): Published(
        "a CNN on MNIST, the first 10 test digits, one random network",
        "10 digits of MNIST",
        "Adebayo et al. 2018, code: cnn_mnist_independent_randomization.ipynb",
        "medians read from box plots, ±0.05",
        _SMALL,
        _curves(
            "spearman_abs",
            {
                "G": (0.60, 0.37, 0.34, 0.36),
                "SG": (0.52, 0.33, 0.36, 0.38),
                "GC": (0.52, 0.53, 0.10, 0.17),
                "IG": (0.99, 0.99, 0.99, 0.99),
                "GxI": (0.99, 0.99, 0.99, 0.99),
                "IG-SG": (0.57, 0.44, 0.49, 0.47),
                "GBP": (0.89, 0.80, 0.60, 0.55),
                "GGC": (0.53, 0.50, 0.20, 0.40),
            },
        )
        | _curves(
            "spearman_signed",
            {
                "G": (0.36, -0.02, -0.02, 0.05),
                "SG": (0.28, -0.04, -0.03, 0.07),
                "GC": (0.52, 0.53, 0.10, 0.17),
                "GxI": (0.32, -0.07, 0.00, 0.08),
                "IG": (0.25, -0.08, 0.03, 0.15),
                "GBP": (0.90, 0.81, 0.63, 0.34),
                "GGC": (0.62, 0.50, 0.34, 0.13),
            },
        ),
    ),
    # Guided backpropagation with signs is that of the notebook on 8 images: in the other one its
    # curve is drawn from the absolute table.
    ("inception_v3", "top_down"): Published(
        "Inception v3 on ImageNet, one photograph (signed guided backpropagation: 8), one network",
        "one photograph, ImageNet",
        "Adebayo et al. 2018, code: inceptionv3_cascading_randomization.ipynb",
        "read from plots, ±0.02",
        _INCEPTION,
        _curves(
            "spearman_abs",
            {
                "G": (
                    *(0.58, 0.54, 0.61, 0.60, 0.53, 0.53, 0.51, 0.52, 0.52, 0.52, 0.46, 0.38),
                    *(0.31, 0.24, 0.17, 0.14, -0.03),
                ),
                "GBP": (
                    *(1.00, 0.99, 0.98, 0.99, 0.94, 0.91, 0.74, 0.74, 0.71, 0.56, 0.47, 0.37),
                    *(0.25, 0.17, 0.16, 0.09, -0.02),
                ),
                "GC": (
                    *(None, 0.60, 0.60, 0.52, 0.88, 0.86, 0.82, 0.79, 0.65, 0.90, 0.93, 0.91),
                    *(0.74, 0.64, 0.79, 0.92, 0.83),
                ),
                "GGC": (
                    *(0.93, 0.74, 0.82, 0.79, 0.84, 0.83, 0.72, 0.76, 0.67, 0.64, 0.69, 0.67),
                    *(0.54, 0.46, 0.54, 0.56, 0.35),
                ),
                "IG": (
                    *(0.72, 0.60, 0.67, 0.64, 0.65, 0.63, 0.61, 0.61, 0.62, 0.60, 0.60, 0.55),
                    *(0.55, 0.55, 0.54, 0.51, 0.37),
                ),
                "GxI": (
                    *(0.77, 0.76, 0.78, 0.78, 0.75, 0.75, 0.73, 0.74, 0.73, 0.73, 0.69, 0.63),
                    *(0.58, 0.55, 0.47, 0.47, 0.31),
                ),
            },
        )
        | _curves(
            "spearman_signed",
            {
                "GBP": (
                    *(1.00, 0.98, 0.98, 0.98, 0.98, 0.98, 0.96, 0.94, 0.93, 0.90, 0.83, 0.74),
                    *(0.65, 0.54, 0.40, 0.20, 0.22),
                ),
                "GGC": (
                    *(0.98, 0.93, 0.95, 0.95, 0.95, 0.95, 0.92, 0.92, 0.89, 0.85, 0.78, 0.73),
                    *(0.62, 0.54, 0.35, 0.23, 0.18),
                ),
                "IG": (0.45, 0.03, 0.12, 0.09, 0.07, 0.02, *(0.0,) * 4, 0.03, *(0.0,) * 6),
                "GxI": (
                    *(0.19, -0.04, 0.11, 0.03, 0.07, -0.05, -0.06, 0.00, -0.02, 0.03, 0.00, 0.02),
                    *(0.00, 0.00, 0.00, 0.00, 0.00),
                ),
            },
        )
        | _curves(
            "ssim",
            {
                "G": (
                    *(0.82, 0.82, 0.86, None, None, None, None, None, 0.82, 0.78, None, None),
                    *(None, 0.62, 0.69, 0.68, 0.71),
                ),
                "GBP": (
                    *(1.00, 1.00, 0.99, 0.99, 1.00, 1.00, 0.99, 0.99, 0.96, 0.96, 0.93, 0.92),
                    *(0.89, 0.91, 0.89, 0.94, 0.91),
                ),
                "GC": (
                    *(None, 0.50, 0.45, 0.40, 0.46, 0.43, 0.47, 0.46, 0.45, 0.40, 0.45, 0.43),
                    *(0.50, 0.43, 0.46, 0.43, 0.46),
                ),
                "IG": (
                    *(0.92, 0.77, 0.82, 0.83, 0.77, 0.74, 0.81, 0.83, 0.80, 0.72, 0.78, 0.74),
                    *(0.71, 0.67, 0.80, 0.80, 0.87),
                ),
                "GxI": (
                    *(0.85, 0.86, 0.90, 0.85, 0.85, 0.82, 0.84, 0.78, 0.86, 0.82, 0.80, 0.78),
                    *(0.71, 0.73, 0.82, 0.82, 0.82),
                ),
            },
        )
        | _curves(
            "hog",
            {
                "G": (
                    *(0.38, 0.35, 0.37, 0.37, 0.34, 0.32, 0.32, None, None, None, None, None),
                    *(0.17, 0.11, 0.00, 0.04, -0.09),
                ),
                "GBP": (
                    *(0.99, 0.99, 0.99, 0.99, 0.98, 0.97, 0.93, 0.90, 0.87, 0.81, 0.62, 0.45),
                    *(0.40, 0.26, 0.31, 0.15, 0.20),
                ),
                "GC": (
                    *(0.69, 0.19, 0.10, 0.07, 0.26, 0.35, 0.40, 0.26, 0.35, 0.36, 0.37, 0.24),
                    *(0.31, 0.19, 0.30, 0.32, 0.40),
                ),
                "IG": (
                    *(0.57, 0.44, 0.44, 0.44, 0.41, 0.40, 0.36, 0.33, 0.30, 0.28, 0.26, 0.28),
                    *(0.35, 0.39, 0.41, 0.30, 0.31),
                ),
                "GxI": (
                    *(0.55, 0.54, 0.54, 0.53, 0.51, 0.51, 0.50, 0.50, 0.48, 0.47, 0.42, 0.44),
                    *(0.40, 0.42, 0.35, 0.35, 0.26),
                ),
            },
        ),
    ),
}
