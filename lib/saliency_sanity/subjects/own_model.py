"""Somebody's own network, from a function that builds it."""

import inspect
from pathlib import Path

from torch import nn

from saliency_sanity._errors import unknown
from saliency_sanity._plugins import find, raised
from saliency_sanity._random import seeded
from saliency_sanity.networks.classifier import Classifier, Scaling
from saliency_sanity.subjects.weights import fill, is_path, read_weights


def load_own(
    path: str,
    weights: str = "default",
    seed: int = 0,
    *,
    scaling: Scaling | None = None,
    size: int = 0,
    cam_layer: str | None = None,
) -> Classifier:
    """Load the network that somebody's own function, class or module gives.

    A function takes no arguments and returns a network or a Classifier; ``seed`` decides what it
    draws. A bare network needs ``scaling`` and ``size`` of its pictures. ``weights`` is
    ``default`` (as the function gives it), a state dict to load into it, or ``none``, for which
    it has to be a Classifier with ``untrained``.

    Raises ValueError and TypeError, which say what to return, what ``find`` raises, and what the
    function does, with a note that says where.
    """
    made = _made(path, seed)
    if isinstance(made, Classifier):
        if scaling or size or cam_layer:
            raise ValueError(
                f"model {path!r} is a Classifier, which has its own scaling, size and cam_layer; "
                "leave out the arguments of these names"
            )
        classifier = made.eval()
    elif isinstance(made, nn.Module):
        if scaling is None or size < 1:
            raise ValueError(
                f"model {path!r} is a bare {type(made).__name__}, which does not say how its "
                "pictures are scaled; return saliency_sanity.Classifier(network, name='mine', "
                "weights='mine', scaling=Scaling(mean, std), size=224) from the function, or "
                "give scaling and size to load_model"
            )
        classifier = Classifier(
            made, name=path, weights="default", scaling=scaling, size=size, cam_layer=cam_layer
        )
    else:
        raise TypeError(
            f"model {path!r} gave {type(made).__name__}; valid are a torch.nn.Module that returns "
            "logits [N, K] and a saliency_sanity.Classifier"
        )
    return _weighted(classifier, path, weights, seed)


def _made(path: str, seed: int) -> object:
    found = find("model", path)
    if isinstance(found, nn.Module):
        return found
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise TypeError(
            f"model {path!r} cannot be called without arguments ({error}); "
            "name a function that takes none"
        ) from error
    try:
        with seeded(seed):
            return found()
    except (Exception, SystemExit) as error:
        # As it is, for who sees where it came from; in a line, for who does not.
        error.add_note(f"model {path!r} raised {raised(error, __file__)}")
        raise


def _weighted(classifier: Classifier, path: str, weights: str, seed: int) -> Classifier:
    if weights == "default":
        return classifier
    if is_path(weights):
        fill(classifier.network, read_weights(Path(weights)), weights)
    elif weights != "none":
        raise ValueError(
            unknown(f"weights of {path}", weights, ["default", "none", "path/to/state_dict.pth"])
        )
    elif classifier.untrained is None:
        raise ValueError(
            f"weights 'none' of {path!r}: nothing is known of how it is drawn; return a "
            "saliency_sanity.Classifier with untrained=, a function of the seed"
        )
    else:
        fill(classifier.network, classifier.untrained(seed).state_dict(), "'none'")
    classifier.weights = weights
    return classifier
