"""Grids: one notebook, many sets of parameters, read and checked before anything runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from saliency_sanity._errors import InputError, unknown
from saliency_sanity._schema import Strict, Values, checked
from saliency_sanity.book.grid.cell import Cell, cell_name, distinct
from saliency_sanity.book.runs.cases import PARAMETER, Case, read_cases
from saliency_sanity.book.runs.parameters import SHARD, check_parameters, read_parameters
from saliency_sanity.book.runs.profiles import check_recipe, profile_parameters, profile_recipe
from saliency_sanity.book.runs.yaml_file import read_yaml

FOLDER = Path("results/grids")

_NAME = re.compile(r"[A-Za-z0-9_]+")
_STEM = re.compile(r"\w[\w.-]*", re.ASCII)
# What the runner sets for each cell.
_OURS = ("results", PARAMETER, SHARD)


_Count = Annotated[int, Field(strict=True, ge=1)]
_MAPS = "map names to values"


class _File(Strict):
    """A grid as its file has it."""

    notebook: str = Field(description="name what is run")
    profile: str | None = Field(None, description="name a file of config/")
    threads: _Count = Field(1, description="be a whole number from 1 on")
    shards: _Count = Field(1, description="be a whole number from 1 on")
    parameters: Values = Field({}, description=_MAPS)
    grid: Values = Field({}, description=_MAPS)
    cases: Values = Field({}, description=_MAPS)

    @field_validator("cases", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return dict.fromkeys(map(str, value)) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _varied(self) -> _File:
        if not self.grid and not self.cases:
            raise ValueError(
                "neither 'grid' (name: [values]) nor 'cases' says what to vary; "
                "a single run is: python -m saliency_sanity run"
            )
        return self


@dataclass(frozen=True)
class Grid:
    """What a grid file says, its cells in order: cases, then values as in nested loops.

    Attributes
    ----------
    file
        The grid file; its name without ending is the grid's.
    source
        The notebook.
    profile
        The profile that gives the scale; None for the notebook's own.
    threads
        Processor threads for each job.
    shards
        Jobs that make the maps of each cell before it is run, each for some of the pictures; with
        1 the cell makes them itself.
    varied
        Names of the parameters that the cells differ in, or might.
    cells
        What there is to run.
    """

    file: Path
    source: Path
    profile: str | None
    threads: int
    shards: int
    varied: tuple[str, ...]
    cells: tuple[Cell, ...] = field(repr=False)

    @property
    def folder(self) -> Path:
        """Where everything of the grid goes, from the root of the checkout."""
        return FOLDER / self.file.stem

    def path(self, kind: str, name: str) -> Path:
        """Where a cell's file of a kind is.

        ``kind`` is ``notebook``, ``record``, ``results``, ``log`` or ``partial``, the copy that
        grows while the cell runs.
        """
        folder, ending = {
            "notebook": ("notebooks", ".ipynb"),
            "record": ("records", ".json"),
            "results": ("results", ""),
            "log": ("logs", ".log"),
            "partial": ("logs", ".ipynb"),
        }[kind]
        return self.folder / folder / f"{name}{ending}"

    def shard_path(self, kind: str, name: str, shard: str) -> Path:
        """Where a file of a cell's shard is, by its stem; ``kind`` is as in :meth:`path`."""
        endings = {"notebook": ".ipynb", "record": ".json", "results": ""}
        endings |= {"log": ".log", "partial": ".log.ipynb"}
        return self.folder / "shards" / name / f"{shard}{endings[kind]}"

    def cell(self, name: str) -> Cell:
        """Return a cell by name; InputError lists the names where it is unknown."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        names = [cell.name for cell in self.cells]
        raise InputError(f"{self.file.name}: {unknown('cell', name, names)}")


def read_grid(file: str | Path) -> Grid:
    """Return a grid, every name and value in it checked against its notebook.

    The current folder is the root of the checkout: notebooks, profiles and trained networks are
    looked for in it.

    Raises
    ------
    InputError
        The file is missing or holds something else: an unknown key, notebook, profile, case or
        parameter, a value of another type, an axis without values, two cells that are the same,
        shards of a notebook or a cell that has none; or a network that a case needs is not
        trained.
    """
    file = Path(file)
    content = _content(file)
    notebooks = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
    if content.notebook not in notebooks:
        raise InputError(f"{file.name}: {unknown('notebook', content.notebook, notebooks)}")
    source = Path("notebooks") / f"{content.notebook}.ipynb"
    declared = read_parameters(source)
    if "results" not in declared:
        raise InputError(
            f"{file.name}: {source.name} has no parameter 'results', so its cells would overwrite "
            "each other's; add 'results: str = \"results\"' and write its tables there"
        )
    check = partial(_checked, declared)
    shared = check(content.parameters, f"{file.name}, parameters")
    axes = _axes(content.grid, declared, shared, file.name)
    cells = []
    for label, (case, own) in _cases(content.cases, source, file.name).items():
        where = f"{file.name}, case {label!r}"
        own = check(own, where)
        for name in own.keys() & axes.keys():
            raise InputError(f"{where}: {name!r} is varied by 'grid' already; set it in one place")
        below = {name: item.default for name, item in declared.items()}
        below |= case.values(source) if case else {}
        if content.profile is not None:
            below |= profile_parameters(content.profile, "config", source, case)
        for values in product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            given = shared | own | point
            full = {key: value for key, value in (below | given).items() if key not in _OURS}
            cells.append(Cell(cell_name(source.stem, label, point), label, case, given, full))
    varied = dict.fromkeys(axes)
    for entry in content.cases.values():
        varied |= dict.fromkeys(entry or {})
    cells = _networks(distinct(cells, file.name), source, content.profile, file.name)
    profile, threads, shards = content.profile, content.threads, content.shards
    if shards > 1:
        _sharded(cells, declared, f"{file.name}: 'shards' is {shards}, but")
    return Grid(file, source, profile, threads, shards, tuple(varied), tuple(cells))


def _content(file: Path) -> _File:
    if not file.is_file():
        near = sorted(path.name for path in file.parent.glob("*.yaml"))
        raise InputError(unknown("grid", file.name, near) + f" (looked for {str(file)!r})")
    if not _STEM.fullmatch(file.stem):
        raise InputError(
            f"{file.name!r} gives its name to a folder; use letters, digits, _, - and . only"
        )
    return checked(_File, read_yaml(file), file.name)


def _sharded(cells: Sequence[Cell], declared: Mapping, where: str) -> None:
    if SHARD not in declared:
        raise InputError(
            f"{where} the notebook has no parameter {SHARD!r}, so its work cannot be divided; "
            "take 'shards' out"
        )
    for cell in cells:
        if cell.values.get("group") == 0:
            raise InputError(
                f"{where} {cell.name} compares every picture with all others; leave 'group', the "
                "number that is compared with each other, as it is, or set it to 2 or more"
            )


def _checked(declared: Mapping, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name in _OURS:
        if name in given:
            raise InputError(f"{where}: {name!r} is set for each cell by the runner; take it out")
    return check_parameters(declared, given, where)


def _axes(
    axes: Mapping[str, Any], declared: Mapping, shared: Mapping, file: str
) -> dict[str, list[Any]]:
    found = {}
    for name, values in axes.items():
        where = f"{file}, grid"
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}: {name!r} must be a list of one or more values: [a, b]")
        if name in shared:
            raise InputError(f"{where}: {name!r} is fixed in 'parameters' already; set it once")
        found[name] = [_checked(declared, {name: value}, where)[name] for value in values]
    return found


def _cases(
    given: Mapping[str, Any], source: Path, file: str
) -> dict[str, tuple[Case | None, Mapping[str, Any]]]:
    """Return by name the notebook's case, if it has one of that name, and what the grid adds."""
    if not given:
        return {"": (None, {})}
    known = read_cases(source.parent).get(source.stem, {})
    found = {}
    for name, own in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(f"{file}: case {name!r}: a name has letters, digits and _ only")
        if name not in known and own is None:
            raise InputError(
                f"{file}: {unknown('case', name, known)} "
                f"A case of the grid's own needs parameters ({name}: {{name: value}})."
            )
        if not isinstance(own, dict | None):
            raise InputError(f"{file}: case {name!r} must map names to values, not {own!r}")
        found[name] = known.get(name), own or {}
    return found


def _networks(cells: list[Cell], source: Path, profile: str | None, file: str) -> list[Cell]:
    """Say which trained networks each cell needs; a grid trains none, it would replace others'."""
    if not any(cell.case and cell.case.needs for cell in cells):
        return cells
    # Imported late: they bring in torch, which most grids start without.
    from saliency_sanity.subjects.training.checkpoints import trained_path

    found, missing = [], {}
    for cell in cells:
        files = []
        for key in cell.case.needs if cell.case else ():
            recipe = (
                profile_recipe(profile, "config", key) if profile else check_recipe(key, {}, file)
            )
            for seed in range(cell.case.count(source, cell.values)):
                one = replace(recipe, seed=seed)
                files.append(os.path.relpath(trained_path(one.network, one.weights)))
                if not Path(files[-1]).is_file():
                    scale = f" --profile {profile}" if profile else ""
                    missing[files[-1]] = (
                        f"python -m saliency_sanity train {key}{scale} -p seed {seed}"
                    )
        found.append(replace(cell, networks=tuple(files)))
    if missing:
        raise InputError(
            f"{file}: {', '.join(missing)}: not trained yet; first: {' && '.join(missing.values())}"
        )
    return found
