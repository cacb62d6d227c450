"""Notebooks to launch: one for each case, with its values and those of profile quick written in."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from saliency_sanity.book.runs.cases import Case, all_copies
from saliency_sanity.book.runs.copy_labels import marked
from saliency_sanity.book.runs.parameters import read_parameters
from saliency_sanity.book.runs.profiles import profile_parameters

# Colab opens files of the repository alone, and neither it nor Binder takes parameters by address.
FOLDER = "launch"
PROFILE = "quick"
# Of several networks a reader waits for two: the second is what others are compared with.
_MOST = 2


def launch_values(source: Path, case: Case, config: Path) -> dict[str, Any]:
    """Return all parameters of a case at the scale of profile quick, by name.

    Of the networks that it needs there are at most two trainings. Raises InputError as
    :func:`saliency_sanity.book.runs.profiles.profile_parameters`.
    """
    values = {name: item.default for name, item in read_parameters(source).items()}
    values |= case.values(source) | profile_parameters(PROFILE, config, source, case)
    if case.replicates:
        values[case.replicates] = min(values[case.replicates], _MOST)
    return values


def launchable(source: Path, case: Case, config: Path) -> nbformat.NotebookNode:
    """Return a case's notebook: its heading, its values as defaults, its networks trained first.

    Raises InputError as :func:`launch_values`.
    """
    values = launch_values(source, case, config)
    notebook = marked(nbformat.read(source, as_version=4), case)
    place = next(
        number
        for number, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", [])
    )
    cell = notebook.cells[place]
    cell.source = _with_values(cell.source, values)
    if case.needs:
        count = values[case.replicates] if case.replicates else 1
        lines = [
            f"!python -m saliency_sanity train {network} --profile {PROFILE} -p seed {seed}"
            for seed in range(count)
            for network in case.needs
        ]
        said = "# The networks of this page. What is there is not trained again."
        trains = copy.deepcopy(cell)
        trains.id, trains.metadata = "launch-networks", {}
        trains.source = "\n".join([said, *lines])
        notebook.cells.insert(place + 1, trains)
    return notebook


def write_launchable(root: Path) -> list[Path]:
    """Write a notebook for each case of a checkout into its folder ``launch``; return the files.

    What else is there is removed. Raises InputError as :func:`launchable`.
    """
    folder = root / FOLDER
    written = []
    for case in all_copies(root / "notebooks").values():
        if case.name:
            source = root / "notebooks" / f"{case.notebook}.ipynb"
            folder.mkdir(exist_ok=True)
            path = folder / f"{case.copy}.ipynb"
            nbformat.write(launchable(source, case, root / "config"), path)
            written.append(path)
    for path in set(folder.glob("*.ipynb")) - set(written):
        path.unlink()
    return written


def _with_values(text: str, values: Mapping[str, Any]) -> str:
    """A parameters cell with other defaults; types stay, and comments behind what is written."""
    lines = text.splitlines()
    for statement in reversed(ast.parse(text).body):
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        value = statement.value
        if ast.literal_eval(value) == values[target.id]:
            continue
        # Columns are counted in bytes.
        first = lines[value.lineno - 1].encode()[: value.col_offset].decode()
        rest = lines[value.end_lineno - 1].encode()[value.end_col_offset :].decode()
        written = json.dumps(values[target.id], ensure_ascii=False)
        if isinstance(values[target.id], bool | float | int):
            written = repr(values[target.id])
        lines[value.lineno - 1 : value.end_lineno] = [first + written + rest]
    return "\n".join(lines)
