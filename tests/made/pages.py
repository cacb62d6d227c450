"""Pages of the book as their notebooks make them, without a kernel."""

from typing import TypeVar

from made.places import ROOT
from saliency_sanity.book.chapters.page import Page
from saliency_sanity.book.runs.parameters import read_parameters

Kind = TypeVar("Kind", bound=Page)


def page_of(kind: type[Kind], folder, **given) -> Kind:
    """A page with the defaults of its notebook but for what is given; results go to a folder."""
    declared = read_parameters(ROOT / "notebooks" / f"{kind.notebook}.ipynb")
    defaults = {name: item.default for name, item in declared.items()}
    return kind.of(defaults | {"results": str(folder / "results"), "device": "cpu"} | given)
