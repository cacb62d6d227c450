"""What the page on randomization says in words: stages, and the network before it is randomized."""

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor

from saliency_sanity._hashing import weights_hash
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.randomization.blocks import WHOLE

_SAYS = {"top_down": "randomized down to {}", "bottom_up": "randomized up to {}"}


def stage_words(stages: Sequence[str], order: str) -> list[str]:
    """What was randomized at each stage of this order."""
    says = _SAYS.get(order, "only {} randomized")
    return ["everything randomized" if s == WHOLE else says.format(s) for s in stages]


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
