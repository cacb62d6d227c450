"""Alternative texts of figures: what this copy found, before what the notebook says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "finding"


def carry_findings() -> None:
    """Let the outputs of this kernel carry what their figures found; outside IPython nothing.

    A figure says it as its label, where :func:`~saliency_sanity.plots.layout.tell` puts it.
    """
    from IPython import get_ipython
    from matplotlib.figure import Figure

    shell = get_ipython()
    if shell is not None:
        # Beside the formatters for pictures, which the inline backend takes away and sets anew.
        shell.display_formatter.mimebundle_formatter.for_type(Figure, _carried)


def _carried(figure: Figure) -> tuple[dict, dict]:
    label = figure.get_label()
    return {}, {FINDING: label} if label else {}


def set_alternatives(notebook: nbformat.NotebookNode) -> None:
    """Begin a cell's alternative text with what its figures found, in place.

    The outputs carry it no longer. Cells without an alternative text get none: nobody has said
    what is seen in their pictures.
    """
    for cell in notebook.cells:
        carried = [
            output.metadata.pop(FINDING)
            for output in cell.get("outputs", [])
            if FINDING in output.get("metadata", {})
        ]
        image = cell.metadata.get("mystnb", {}).get("image", {})
        if carried and "alt" in image:
            image["alt"] = " ".join([*carried, image["alt"]])
