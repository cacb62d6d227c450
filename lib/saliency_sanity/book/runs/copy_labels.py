"""Labels of an executed notebook, marked so that its copies can stand in one book."""

from __future__ import annotations

import copy
import re

import nbformat

from saliency_sanity._errors import InputError
from saliency_sanity.book.runs.cases import Case

# Where MyST defines a label: before a block, as an option of a directive, behind a formula, and
# as an attribute.
_LABELS = re.compile(
    r"^\((?P<target>[^()\s]+)\)=[ \t]*$"
    r"|^[ \t]*:(?:name|label):[ \t]*(?P<option>\S+)[ \t]*$"
    r"|\$\$[ \t]*\((?P<formula>[^()\s]+)\)[ \t]*$"
    r"|\{#(?P<attribute>[^\s}]+)",
    re.MULTILINE,
)
_ROLE = re.compile(r"(?P<before>\{(?:numref|ref|eq)\}`)(?P<inside>[^`]+)(?P<after>`)")
_LINK = re.compile(r"(?P<before>\]\(#)(?P<inside>[^)\s]+)(?P<after>[)\s])")


def marked(notebook: nbformat.NotebookNode, case: Case) -> nbformat.NotebookNode:
    """Return a notebook that can stand in one book beside its other cases.

    The case's title follows the first heading. Every label that the notebook defines gets the
    case's name, and with it the references to it: figures' names in the cells' metadata, targets,
    directives' names, formulae; ``numref``, ``ref``, ``eq`` and ``[](#label)``. References to
    other pages stay. Code and outputs are not touched.

    Raises
    ------
    InputError
        The notebook has no heading ``# …``.
    """
    notebook = copy.deepcopy(notebook)
    texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    heading = next((cell for cell in texts if re.search(r"^# .*\S", cell.source, re.M)), None)
    if heading is None:
        raise InputError(
            f"{case.notebook}.ipynb has no heading '# …' that the title of case {case.name!r} "
            "could follow; give it one in a Markdown cell"
        )
    line = re.search(r"^# .*\S", heading.source, re.M)
    heading.source = heading.source[: line.end()] + f": {case.title}" + heading.source[line.end() :]
    figures = [
        cell.metadata["mystnb"]["figure"]
        for cell in notebook.cells
        if "figure" in cell.metadata.get("mystnb", {})
    ]
    labels = {figure["name"] for figure in figures if "name" in figure}
    for cell in texts:
        labels |= {found[found.lastgroup] for found in _LABELS.finditer(cell.source)}
    for figure in figures:
        if "name" in figure:
            figure["name"] = f"{figure['name']}-{case.name}"
        if "caption" in figure:
            figure["caption"] = _renamed(figure["caption"], labels, case.name)
    for cell in texts:
        cell.source = _renamed(cell.source, labels, case.name)
    return notebook


def _renamed(text: str, labels: set[str], case: str) -> str:
    def definition(match: re.Match) -> str:
        end = match.end(match.lastgroup) - match.start()
        return f"{match[0][:end]}-{case}{match[0][end:]}"

    def reference(match: re.Match) -> str:
        inside = match["inside"]
        words = re.fullmatch(r"(.*<)([^<>]+)(>)", inside, re.S) or re.fullmatch(
            r"()([^<>]+)()", inside
        )
        if words is None or words[2] not in labels:
            return match[0]
        return f"{match['before']}{words[1]}{words[2]}-{case}{words[3]}{match['after']}"

    for pattern, replaced in ((_LABELS, definition), (_ROLE, reference), (_LINK, reference)):
        text = pattern.sub(replaced, text)
    return text
