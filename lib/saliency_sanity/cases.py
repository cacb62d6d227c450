"""Cases of a notebook: one source, executed several times with different subjects."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import yaml

from saliency_sanity.names import unknown
from saliency_sanity.parameters import InputError, check_parameters, read_parameters

FILE = "cases.yaml"
# A notebook that declares this parameter is told which case it runs, to name its files by.
PARAMETER = "case"

_KEYS = ("title", "needs", "replicates", "profiles", "parameters")
_NAME = re.compile(r"[a-z0-9_]+")
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


@dataclass(frozen=True)
class Case:
    """One way to execute a notebook.

    Attributes
    ----------
    notebook
        The notebook's name without its ending.
    name
        The case's name; empty for a notebook without cases.
    title
        What it shows, appended to the notebook's heading.
    needs
        Networks that have to be trained before it runs, as the profile names them.
    replicates
        The notebook's parameter that says how many of each are needed, with the seeds 0, 1, …;
        empty: one, with seed 0.
    profiles
        The profiles in which the workflow runs it; none named: all of them.
    parameters
        What is run: values by name. A profile says only at which scale.
    """

    notebook: str
    name: str = ""
    title: str = ""
    needs: tuple[str, ...] = ()
    replicates: str = ""
    profiles: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def copy(self) -> str:
        """Name of the executed copy, without its ending."""
        return f"{self.notebook}-{self.name}" if self.name else self.notebook

    def runs_in(self, profile: str) -> bool:
        """Whether the workflow runs it in a profile."""
        return not self.profiles or profile in self.profiles

    def values(self, source: str | Path) -> dict[str, Any]:
        """Return what the case sets, checked against its notebook, and its name where asked for.

        Raises
        ------
        InputError
            The notebook has no such parameter, or one of another type.
        """
        declared = read_parameters(source)
        given = dict(self.parameters)
        if self.name and PARAMETER in declared:
            given[PARAMETER] = self.name
        return check_parameters(declared, given, f"case {self.name!r} of {self.notebook}")

    def count(self, source: str | Path, given: Mapping[str, Any]) -> int:
        """Return how many networks of each that it needs it takes when run with ``given`` values.

        What ``given`` leaves out is as the case sets it, else the notebook's default.

        Raises
        ------
        InputError
            As :meth:`values`; also when ``replicates`` is no parameter of whole numbers, or below
            one.
        """
        if not self.replicates:
            return 1
        declared, where = read_parameters(source), f"case {self.name!r} of {self.notebook}"
        if self.replicates not in declared:
            message = unknown("parameter", self.replicates, declared)
            raise InputError(f"{where}: 'replicates' names no parameter of the notebook: {message}")
        parameter = declared[self.replicates]
        if parameter.type != "int":
            raise InputError(
                f"{where}: 'replicates' names {parameter.name!r}, which is declared as "
                f"{parameter.type}; it says how many networks there are, so it has to be an int"
            )
        values = {parameter.name: parameter.default} | self.values(source) | dict(given)
        count = values[parameter.name]
        if count < 1:
            raise InputError(
                f"{where} takes {count} networks of each that it needs ({parameter.name} = "
                f"{count}); set it to 1 or more"
            )
        return count


def read_cases(folder: str | Path) -> dict[str, dict[str, Case]]:
    """Return the cases of every notebook in a folder that has some: notebook, name, case.

    Parameters
    ----------
    folder
        Where the notebooks and ``cases.yaml`` are; without that file there are no cases.

    Raises
    ------
    InputError
        The file holds something else. Whether the notebooks exist is not looked at.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{FILE} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(
        isinstance(cases, dict) and cases for cases in content.values()
    ):
        raise InputError(f"{FILE} must map each notebook's name to its cases (name: {{title: …}})")
    return {
        notebook: {name: _case(notebook, name, entry) for name, entry in cases.items()}
        for notebook, cases in content.items()
    }


def find_case(source: str | Path, name: str) -> Case:
    """Return a notebook's case by name.

    Raises
    ------
    InputError
        The notebook has no such case; the message lists those it has.
    """
    source = Path(source)
    cases = read_cases(source.parent).get(source.stem, {})
    if name not in cases:
        read_parameters(source)  # a notebook that is not there is what is wrong first
        raise InputError(f"{source.name}: {unknown('case', name, cases)}")
    return cases[name]


def all_copies(folder: str | Path) -> dict[str, Case]:
    """Return what there is to execute in a folder of notebooks, by the name of its copy.

    A notebook without cases has one copy, of its own name. Cases come first, in the order in
    which ``cases.yaml`` has them.

    Raises
    ------
    InputError
        As :func:`read_cases`; also when a case's notebook does not exist, or two copies would
        have one name.
    """
    there = sorted(path.stem for path in Path(folder).glob("*.ipynb"))
    cases = read_cases(folder)
    for notebook in cases:
        if notebook not in there:
            raise InputError(f"{FILE}: {unknown('notebook', notebook, there)}")
    found = [case for named in cases.values() for case in named.values()]
    found += [Case(notebook) for notebook in there if notebook not in cases]
    copies = {}
    for case in found:
        other = copies.setdefault(case.copy, case)
        if other is not case:
            raise InputError(
                f"{FILE}: case {other.name or case.name!r} has the name of another copy, "
                f"{case.copy}; name it otherwise"
            )
    return copies


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


def _case(notebook: Any, name: Any, entry: Any) -> Case:
    where = f"{FILE}: case {name!r} of {notebook}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"{where}: a case's name has small letters, digits and _ only")
    if not isinstance(entry, dict):
        raise InputError(f"{where} must map {', '.join(_KEYS)} to their values")
    for key in entry:
        if key not in _KEYS:
            raise InputError(f"{where}: {unknown('key', key, _KEYS)}")
    title, parameters = entry.get("title"), entry.get("parameters") or {}
    if not isinstance(title, str) or not title.strip():
        raise InputError(f"{where}: 'title' is missing; say in some words what it shows")
    for key in ("needs", "profiles"):
        value = entry.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{where}: {key!r} must be a list of names, not {value!r}")
    replicates = entry.get("replicates", "")
    if not isinstance(replicates, str) or (replicates and not entry.get("needs")):
        raise InputError(
            f"{where}: 'replicates' must be the name of the parameter that says how many of the "
            f"networks in 'needs' there are, not {replicates!r} with needs "
            f"{entry.get('needs', [])}"
        )
    if not isinstance(parameters, dict) or PARAMETER in parameters:
        raise InputError(
            f"{where}: 'parameters' must map names to values, {PARAMETER!r} not among them: "
            "the runner sets it"
        )
    needs, profiles = tuple(entry.get("needs", [])), tuple(entry.get("profiles", []))
    return Case(notebook, name, title.strip(), needs, replicates, profiles, parameters)
