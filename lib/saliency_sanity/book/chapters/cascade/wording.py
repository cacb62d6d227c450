"""What the page on randomization says in words: stages, and the network before it is randomized."""

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor

from saliency_sanity._hashing import weights_hash
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.variants import has_batch_norms
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.randomization.blocks import WHOLE

_SAYS = {"top_down": "randomized down to {}", "bottom_up": "randomized up to {}"}


def stage_words(stages: Sequence[str], order: str) -> list[str]:
    """What was randomized at each stage of this order."""
    says = _SAYS.get(order, "only {} randomized")
    return ["everything randomized" if s == WHOLE else says.format(s) for s in stages]


def random_words(shares: Sequence[float]) -> list[tuple[str, str]]:
    """The trained network, and by stage how much is random, from the logits down.

    Each in short and as a sentence.
    """
    words = [("trained", "The network as it was trained.")]
    for share in shares:
        if share >= 1:
            words.append(("all random", "All of the network is random. It has learned nothing."))
        else:
            part = f"{share:.0%}"
            words.append(
                (f"{part} random", f"The upper {part} of the network's blocks are random.")
            )
    return words


def weights_text(classifier: Classifier) -> str:
    """Which weights a network has, with their hash."""
    return f"{classifier.weights} ({weights_hash(classifier)})"


def network_facts(
    classifier: Classifier, pictures: str, predicted: Tensor, labels: Tensor | None
) -> dict[str, str]:
    """What a network is and can do: its size, weights, ``pictures``, and accuracy where known.

    ``predicted`` ``[N]`` are its classes of the pictures, ``labels`` ``[N]`` theirs if known.
    """
    parameters = sum(p.numel() for p in classifier.parameters())
    facts = {
        "network": f"{classifier.name}, {parameters:,} parameters",
        "weights": weights_text(classifier),
        "pictures": f"{pictures}, {classifier.size} px",
    }
    facts |= _training(classifier.provenance or {})
    if labels is not None:
        facts["of these pictures right"] = f"{int((predicted == labels).sum())} of {len(labels)}"
    return facts


_NORMS = (
    "In torchvision's networks batch norms have a scale; in the reference code they have none. The "
    "scale is randomized with the weights. Running statistics are kept, as in the reference code."
)
_INCEPTION = (
    "Weights of Inception v3 are drawn as the reference code draws them, with variance 2 / fan-in. "
    "torchvision's own initialiser overflows when the running statistics are those of a trained "
    "network.",
    "At 299 px Grad-CAM looks at Mixed_7c. At 75 px this layer of Inception v3 has a single place "
    "left. So with such pictures Grad-CAM looks at Mixed_5d, which has 7 × 7 places, and other "
    "layers are tried. The lower layers of a network trained for minutes on garments need not "
    "behave as those of one trained for days on photographs.",
    "Guided backpropagation here also handles rectifiers that are called as functions. Hooks on "
    "modules would have missed all rectifiers of Inception v3.",
)


def network_differences(classifier: Classifier) -> list[str]:
    """Where a network is treated otherwise than the paper's, in Markdown.

    Batch norms are spoken of where it has some, Inception v3 where it is that.
    """
    lines = []
    if has_batch_norms(classifier):
        lines.append(_NORMS)
    if classifier.name.startswith("inception_v3"):
        lines += _INCEPTION
    return lines


def _training(trained: Mapping) -> dict[str, str]:
    if not trained:
        return {}
    return {
        "trained on": f"{trained['images']:,} pictures, {trained['epochs']:.3g} epochs",
        "test accuracy": f"{trained['test_accuracy']:.1%} of {trained['test_count']:,}",
    }


def random_networks(seeds: int) -> str:
    """How many random networks there are, and what that leaves of a prior."""
    if seeds == 1:
        return "1; no prior, and intervals cover pictures only"
    return f"{seeds}; the prior is made of {seeds - 1} pair{'s' * (seeds > 2)}"


def ceiling_text(experiment: Experiment) -> str:
    """What the ceiling is made of."""
    again = [f"{len(experiment.x[: experiment.ceiling])} maps in double precision"]
    count = len(experiment.trainings)
    again += [f"maps of {count} other training{'s' * (count > 1)}"] if count else []
    return " and ".join(again)


def published_title(beside: pd.DataFrame, near: float) -> str:
    """How many of our similarities are near those published; ``beside`` has both, row by row."""
    apart = (beside["similarity"] - beside["published"]).dropna()
    lower, higher = int((apart < -near).sum()), int((apart > near).sum())
    close = len(apart) - lower - higher
    said = f"{close} of {len(apart)} similarities lie within {near:g} of the authors'"
    rest = [f"{n} {word}" for n, word in ((lower, "lower"), (higher, "higher")) if n]
    return f"{said}; {' and '.join(rest)}" if rest else said
