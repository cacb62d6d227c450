"""Pages made from the parameters that their notebooks declare, without a kernel."""

from pathlib import Path
from typing import Any, TypeVar

from made.places import ROOT
from saliency_sanity.book.chapters.page import Page
from saliency_sanity.book.runs.parameters import read_parameters
from saliency_sanity.book.runs.profiles import read_profile

Kind = TypeVar("Kind", bound=Page)


def parameters(notebook: str, **given: Any) -> dict[str, Any]:
    """What a notebook of the book sets, with some values given."""
    declared = read_parameters(ROOT / "notebooks" / f"{notebook}.ipynb")
    assert set(given) <= set(declared), "a notebook is given only parameters that it has"
    return {name: parameter.default for name, parameter in declared.items()} | given


def page_of(kind: type[Kind], folder: Path, **given: Any) -> Kind:
    """A page with the defaults of its notebook but for what is given; results go to a folder."""
    place = {"results": str(folder / "results"), "device": "cpu"}
    return kind.of(parameters(kind.notebook, **place | given))


def small_page_of(kind: type[Kind], folder: Path, **given: Any) -> Kind:
    """A page at the scale of profile smoke, as a run of its notebook would make it."""
    scale = read_profile("smoke", ROOT / "config").notebooks[kind.notebook]
    return page_of(kind, folder, **scale | given)
