"""Methods by name: the catalogue's, or somebody's own."""

import inspect
from collections.abc import Iterable

from saliency_sanity._errors import unknown
from saliency_sanity._plugins import PEERS, find, is_module, peer
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.attribution.cards import CARDS, Card

CATALOGUE: dict[str, Card] = {card.name: card for card in CARDS}

# What the pages of the book compare where nobody says otherwise: the methods and controls of the
# papers they replicate. Whatever else the catalogue has is for whoever asks for it.
FIGURES = (
    *("gradient", "gradient_x_input", "integrated_gradients", "smoothgrad", "vargrad"),
    *("ig_smoothgrad", "guided_backprop", "deconvnet", "rectgrad", "modified_rectgrad"),
    *("grad_cam", "guided_grad_cam", "cgi", "competitive_ig", "lrp_epsilon", "competitive_lrp"),
    *("lrp_zplus", "lrp_alpha_beta", "sobel", "canny", "input", "noise", "input_x_noise"),
)


def title(name: str, short: bool = False) -> str:
    """What figures call a method: its card's title or abbreviation, else the name itself.

    Another library's method has the library behind its name, since several have one of that name.
    """
    card = CATALOGUE.get(name)
    if card is None:
        home, _, own = name.rpartition(":")
        return f"{own} ({home})" if home in PEERS else own
    return card.abbreviation if short else card.title


def titles(names: Iterable[str]) -> dict[str, str]:
    """Titles by name, all different: where two would share one, names stand for themselves."""
    found = {name: title(name) for name in names}
    shared = {text for text in found.values() if list(found.values()).count(text) > 1}
    return {name: name if text in shared else text for name, text in found.items()}


def is_control(name: str) -> bool:
    """Whether the verdict on the method is known beforehand."""
    return name in CATALOGUE and CATALOGUE[name].kind == "control"


def resolve(name: str, **parameters: object) -> Attribution:
    """Give the attribution of that name: one of the catalogue, or ``package.module:function``.

    ``parameters`` replace defaults of the catalogue's entry; for somebody's own object they are
    passed to it when it is a class, and refused when it is a function. Names such as
    ``captum:DeepLift`` are methods of other libraries, with these' own parameters. Raises
    ValueError for an unknown name or parameter, with the nearest valid ones, and ImportError for a
    library that is not installed.
    """
    if ":" in name and (adapted := peer(name)):
        return adapted.method(name, parameters)
    if ":" in name:
        found = find("method", name)
        if inspect.isclass(found):
            return found(**parameters)
        if parameters:
            raise ValueError(f"method {name!r} is a function and takes no parameters here")
        return found
    if name not in CATALOGUE:
        said = unknown("method", name, ["package.module:function", *CATALOGUE])
        if is_module(name):
            said += f" There is a module {name}: for its function {name} say {name}:{name}."
        raise ValueError(said)
    build = CATALOGUE[name].build
    valid = inspect.signature(build).parameters
    for key in parameters:
        if key not in valid:
            raise ValueError(unknown(f"parameter of {name}", key, valid))
    return build(**parameters)
