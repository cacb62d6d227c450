"""Pages made from the parameters that their notebooks declare, without a kernel."""

from typing import Any

from made.places import ROOT
from saliency_sanity.book.runs.parameters import read_parameters


def parameters(notebook: str, **given: Any) -> dict[str, Any]:
    """What a notebook of the book sets, with some values given."""
    declared = read_parameters(ROOT / "notebooks" / f"{notebook}.ipynb")
    assert set(given) <= set(declared), "a notebook is given only parameters that it has"
    return {name: parameter.default for name, parameter in declared.items()} | given
