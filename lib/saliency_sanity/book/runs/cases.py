"""Cases of a notebook: one source, executed several times with different subjects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from saliency_sanity._errors import InputError, unknown
from saliency_sanity._schema import Strict, Values, checked
from saliency_sanity.book.runs.parameters import check_parameters, read_parameters
from saliency_sanity.book.runs.yaml_file import read_yaml

FILE = "cases.yaml"
# A notebook that declares this parameter is told which case it runs, to name its files by.
PARAMETER = "case"
# A notebook that declares this one is told in which profile, to know which copies there are.
PROFILE = "profile"
# What stands beside a notebook's cases, and its one value.
_AFTER, _ALL = "after", "all"

_NAME = re.compile(r"[a-z0-9_]+")


class _Entry(Strict):
    """A case as the file has it."""

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = Field(
        description="say in some words what it shows"
    )
    needs: tuple[str, ...] = Field((), description="be a list of names")
    replicates: str = Field(
        "",
        description="be the name of the parameter that says how many of the networks in 'needs' "
        "there are",
    )
    profiles: tuple[str, ...] = Field((), description="be a list of names")
    parameters: Values = Field({}, description="map names to values")

    @field_validator("replicates")
    @classmethod
    def _of_networks(cls, value: str, info: ValidationInfo) -> str:
        if value and not info.data.get("needs", True):
            valid = cls.model_fields["replicates"].description
            raise ValueError(f"'replicates' must {valid}, not {value!r} with needs []")
        return value

    @field_validator("parameters")
    @classmethod
    def _not_the_runners(cls, values: dict) -> dict:
        if {PARAMETER, PROFILE} & values.keys():
            raise ValueError(
                f"'parameters' must map names to values, {PARAMETER!r} and {PROFILE!r} not among "
                "them: the runner sets those"
            )
        return values


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
    after_all
        Whether it reads the results of the other copies, and so runs after all of them.
    """

    notebook: str
    name: str = ""
    title: str = ""
    needs: tuple[str, ...] = ()
    replicates: str = ""
    profiles: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    after_all: bool = False

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

    A notebook may be marked ``after: all`` beside its cases, or without having any.

    Parameters
    ----------
    folder
        Where the notebooks and ``cases.yaml`` are; without that file there are no cases.

    Raises
    ------
    InputError
        The file holds something else. Whether the notebooks exist is not looked at.
    """
    return {notebook: cases for notebook, cases in _read(folder).items() if cases}


def no_cases(folder: str | Path) -> str:
    """What is to be said of a folder of notebooks without their cases; nothing for others."""
    if (Path(folder) / FILE).exists():
        return ""
    return f" Cases stand in {FILE} beside the notebooks; copy it from notebooks/ of a checkout."


def _read(folder: str | Path) -> dict[str, dict[str, Case]]:
    """Cases of every notebook in the file; none for one that is only marked there."""
    path = Path(folder) / FILE
    if not path.exists():
        return {}
    content = read_yaml(path)
    if not isinstance(content, dict) or not all(
        isinstance(cases, dict) and cases for cases in content.values()
    ):
        raise InputError(f"{FILE} must map each notebook's name to its cases (name: {{title: …}})")
    for notebook, cases in content.items():
        if cases.get(_AFTER, _ALL) != _ALL:
            raise InputError(
                f"{FILE}: {_AFTER!r} of {notebook} is {cases[_AFTER]!r}; the only value is "
                f"{_ALL!r}, for a notebook that reads the results of all others"
            )
    return {
        notebook: {
            name: _case(notebook, name, entry, _AFTER in cases)
            for name, entry in cases.items()
            if name != _AFTER
        }
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
        raise InputError(f"{source.name}: {unknown('case', name, cases)}{no_cases(source.parent)}")
    return cases[name]


def all_copies(folder: str | Path) -> dict[str, Case]:
    """Return what there is to execute in a folder of notebooks, by the name of its copy.

    A notebook without cases has one copy, of its own name. Cases come first, in the order in
    which ``cases.yaml`` has them; what runs after all others comes last.

    Raises
    ------
    InputError
        As :func:`read_cases`; also when a case's notebook does not exist, or two copies would
        have one name.
    """
    there = sorted(path.stem for path in Path(folder).glob("*.ipynb"))
    cases = _read(folder)
    for notebook in cases:
        if notebook not in there:
            raise InputError(f"{FILE}: {unknown('notebook', notebook, there)}")
    found = [case for named in cases.values() for case in named.values()]
    # One without cases stands in the file only for being marked.
    found += [Case(name, after_all=name in cases) for name in there if not cases.get(name)]
    found.sort(key=lambda case: case.after_all)
    copies = {}
    for case in found:
        other = copies.setdefault(case.copy, case)
        if other is not case:
            raise InputError(
                f"{FILE}: case {other.name or case.name!r} has the name of another copy, "
                f"{case.copy}; name it otherwise"
            )
    return copies


def _case(notebook: Any, name: Any, entry: Any, after_all: bool) -> Case:
    where = f"{FILE}: case {name!r} of {notebook}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"{where}: a case's name has small letters, digits and _ only")
    return Case(notebook, name, after_all=after_all, **dict(checked(_Entry, entry, where)))
