"""Figures before code: sources folded at a section's end; at the top the run and its claims."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes

from saliency_sanity.book.runs.stamp import METADATA_KEY

CODE = "Code of this section"
PARAMETERS = "Parameters of this page"
# A notebook's own parameters, and those of the run, which papermill adds as a cell of their own.
_PARAMETER_CELLS = {"tag_parameters", "tag_injected-parameters"}
# How a page's pictures are counted: the parameter, and what it counts.
_PICTURES = "image_count"
# How the summary of a page's claims begins.
_COUNTED = re.compile(r"\d+ claims?: .+\.")
# Tag of a cell without whose output its section has nothing to say.
_ONLY_SHOWN = "tag_section-if-shown"


class Fold(nodes.General, nodes.Element):
    """What a reader opens; attribute ``summary`` says what is inside."""


def _open(self: Any, node: Fold) -> None:
    attributes = {"class": " ".join(["fold", *node["classes"]])}
    self.body.append(self.starttag({}, "details", **attributes))
    self.body.append(f"<summary>{self.encode(node['summary'])}</summary>\n")


def _close(self: Any, _node: Fold) -> None:
    self.body.append("</details>\n")


def _as_it_is(_self: Any, _node: Fold) -> None:
    """Builders without anything to open show what is inside."""


def _cells(section: nodes.Element) -> Iterator[nodes.container]:
    for child in section.children:
        if isinstance(child, nodes.container) and child.get("nb_element") == "cell_code":
            yield child


def _taken(cell: nodes.container) -> list[nodes.Node]:
    """The hidden source of a cell, taken out of it; empty for cells that show theirs."""
    hidden = cell.get("hide_mode")
    if hidden not in ("input", "input+output"):
        return []
    sources = [child for child in cell.children if child.get("nb_element") == "cell_code_source"]
    for source in sources:
        cell.remove(source)
    cell["hide_mode"] = "output" if hidden == "input+output" else None
    if not cell.children:
        cell.parent.remove(cell)
    return sources


def _fold(summary: str, sources: list[nodes.Node], kind: str) -> Fold:
    cell = nodes.container("", *sources, classes=["cell"])
    return Fold("", cell, summary=summary, classes=[kind])


def _end(section: nodes.Element) -> int:
    """Where a section's own content ends: before its subsections and the link to the next page."""
    for number, child in enumerate(section.children):
        if isinstance(child, nodes.section) or "next-page" in getattr(child, "attributes", {}).get(
            "classes", ()
        ):
            return number
    return len(section.children)


def fold_code(doctree: nodes.Element) -> Fold | None:
    """Fold the hidden sources of each section into one at its end, in place.

    A section that shows nothing before its first subsection, as one that only imports, adds its
    sources to those of that subsection.
    Sources of cells tagged ``parameters``, and of what papermill adds to them, come back as a
    fold of their own, which has no place yet; None where there are none. Outputs stay where they
    are, and so does whatever a cell shows openly.
    """
    parameters: list[nodes.Node] = []
    code: list[nodes.Node] = []
    for section in [doctree, *doctree.findall(nodes.section)]:
        for cell in list(_cells(section)):
            mine = _PARAMETER_CELLS & set(cell["classes"])
            (parameters if mine else code).extend(_taken(cell))
        # Cells that are left show something.
        below = any(isinstance(child, nodes.section) for child in section.children)
        if code and (any(_cells(section)) or not below):
            section.insert(_end(section), _fold(CODE, code, "code-of-section"))
            code = []
    return _fold(PARAMETERS, parameters, "parameters-of-page") if parameters else None


def drop_silent(doctree: nodes.Element) -> None:
    """Take out each section with a cell tagged ``section-if-shown`` that shows nothing, in place.

    A page of many networks has texts that some of them do not need, such as one on batch norms.
    """
    for section in list(doctree.findall(nodes.section)):
        shown = [
            any(child.get("nb_element") == "cell_code_output" for child in cell.children)
            for cell in _cells(section)
            if _ONLY_SHOWN in cell["classes"]
        ]
        if not all(shown):
            section.parent.remove(section)


def duration(seconds: float) -> str:
    """Say how long something took, rounded to what a reader plans with: 40 s, 4 min, 1 h 20 min."""
    if round(seconds) < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return " ".join(
        part for part in (f"{hours} h" * bool(hours), f"{rest} min" * bool(rest)) if part
    )


def run_line(stamp: Mapping[str, Any]) -> str:
    """What it took to make an executed copy, from its ``stamp``; empty where that is not known."""
    seconds = stamp.get("seconds")
    if seconds is None or not math.isfinite(seconds):
        return ""
    parts = [duration(seconds)]
    threads = stamp.get("threads")
    if threads:
        parts[0] += f" on {threads} {'core' if threads == 1 else 'cores'}"
    pictures = stamp.get("parameters", {}).get(_PICTURES)
    if isinstance(pictures, int):
        some = f"{pictures} {'picture' if pictures == 1 else 'pictures'}"
        parts.append(some if pictures else "all pictures")
    if stamp.get("profile"):
        parts.append(f"profile {stamp['profile']}")
    return f"This copy: {', '.join(parts)}."


def claims_line(doctree: nodes.Element) -> nodes.paragraph | None:
    """How a page's claims came out, as a link to the section that says so; None without claims."""
    for counted in doctree.findall(nodes.strong):
        section = counted.parent
        while section is not None and not isinstance(section, nodes.section):
            section = section.parent
        if section is not None and _COUNTED.fullmatch(counted.astext()):
            link = nodes.reference("", counted.astext(), internal=True, refid=section["ids"][0])
            return nodes.paragraph("", "", link, classes=["its-claims"])
    return None


def _stamp(file: Path) -> Mapping[str, Any]:
    if file.suffix != ".ipynb":
        return {}
    return json.loads(file.read_text(encoding="utf8"))["metadata"].get(METADATA_KEY, {})


def _fold_page(app: Any, doctree: nodes.document) -> None:
    drop_silent(doctree)
    fold = fold_code(doctree)
    line = run_line(_stamp(Path(app.env.doc2path(app.env.docname))))
    head = [nodes.paragraph(line, line, classes=["this-copy"])] if line else []
    if fold:
        head.append(fold)
    if claims := claims_line(doctree):
        head.append(claims)
    title = next(doctree.findall(nodes.title), None)
    if title is not None and head:
        place = title.parent.index(title) + 1
        title.parent.insert(place, nodes.container("", *head, classes=["page-head"]))


def setup(app: Any) -> dict[str, bool]:
    """Sphinx extension: folded sources; under the title the run of the copy, and its claims."""
    shown = (_as_it_is, _as_it_is)
    app.add_node(Fold, html=(_open, _close), latex=shown, text=shown, man=shown, texinfo=shown)
    # Before the contents of the page are collected.
    app.connect("doctree-read", _fold_page, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
