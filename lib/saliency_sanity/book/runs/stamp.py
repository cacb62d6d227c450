"""Executed notebooks: how far one got, what made it, its pictures, no trace of the machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from saliency_sanity.book.runs.alternatives import set_alternatives
from saliency_sanity.book.runs.pictures import lighten

METADATA_KEY = "saliency_sanity"


def last_started(log: Path) -> int | None:
    """Return the number, in the source, of the cell that ran last; None when none did.

    Cells that papermill added do not count.
    """
    if not log.is_file():
        return None
    added = {"injected-parameters", "papermill-error-cell-tag"}
    cells = [
        cell
        for cell in nbformat.read(log, as_version=4).cells
        if added.isdisjoint(cell.metadata.get("tags", []))
    ]
    started = [
        number
        for number, cell in enumerate(cells, start=1)
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time")
    ]
    return started[-1] if started else None


def last_printed(log: Path) -> str:
    """Return the last line on standard error of the cell that failed; empty where there is none.

    Of several exceptions in a group, which stand in a frame, it is the line that names the group.
    """
    text = "".join(
        item.text
        for cell in nbformat.read(log, as_version=4).cells
        if cell.metadata.get("papermill", {}).get("exception")
        for item in cell.get("outputs", [])
        if item.output_type == "stream" and item.name == "stderr"
    )
    group = re.search(r"^  \| (\w.*\(\d+ sub-exceptions?\))$", text, re.MULTILINE)
    return group[1] if group else text.strip().rpartition("\n")[2]


def stopped(log: Path) -> bool:
    """Return whether a copy ends before the last cell of its notebook, or with a failing one."""
    return _unfinished(nbformat.read(log, as_version=4))


def _unfinished(notebook: nbformat.NotebookNode) -> bool:
    record = notebook.metadata.get("papermill", {})
    return bool(not record.get("end_time") or record.get("exception"))


def finish(notebook: nbformat.NotebookNode, source: Path, stamp: Mapping[str, Any]) -> None:
    """Stamp an executed notebook, take the machine's folders out of it, see to its pictures.

    All in place.

    Parameters
    ----------
    notebook
        The executed copy.
    source
        The notebook it was made from.
    stamp
        What made it, kept in the metadata under ``METADATA_KEY``.

    Raises
    ------
    RuntimeError
        The copy stopped half way.
    """
    notebook.metadata[METADATA_KEY] = dict(stamp)
    if _unfinished(notebook):
        raise RuntimeError(f"{source.name}: the executed copy is not finished, yet no error came")
    record = notebook.metadata["papermill"]
    record["input_path"] = record["output_path"] = source.name
    lighten(notebook)
    set_alternatives(notebook)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags and "hide-input" not in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
        for item in cell.get("outputs", []):
            if "text" in item:
                item["text"] = without_machine_paths(item["text"], source)
            data = item.get("data", {})
            for kind in [kind for kind in data if isinstance(data[kind], str)]:
                if kind.startswith("text/"):
                    data[kind] = without_machine_paths(data[kind], source)


def without_machine_paths(text: str, source: str | Path) -> str:
    """Replace the folders of this machine in a text: a book has no use for them.

    The current folder, the notebook's and its parent become relative ones, the Python environment
    ``<environment>``, the home folder ``~``.
    """
    here = Path(source).resolve().parent
    names = {
        str(here.parent): ".",
        str(here): here.name,
        str(Path.cwd()): ".",
        sys.prefix: "<environment>",
        sys.base_prefix: "<python>",
        str(Path.home()): "~",
    }
    for folder in sorted((name for name in names if len(name) > 1), key=len, reverse=True):
        text = re.sub(rf"{re.escape(folder)}(?=[/\\\s\"'`<>:;,)\]]|$)", names[folder], text)
    return text
