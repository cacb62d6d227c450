"""Parameters of notebooks: what there is, of which type, and values checked against it."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from saliency_sanity._errors import InputError, unknown

# A notebook that declares this parameter has its longest work done by several jobs; where it is
# set, the cell tagged so is the last that runs.
SHARD = "shard"

TYPES = ("int", "float", "str", "bool", "list")
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell.

    Attributes
    ----------
    name
        The variable.
    type
        One of ``TYPES``, or ``"list[…]"`` of one of them.
    default
        Its value in the notebook.
    comment
        What the notebook says of it.
    """

    name: str
    type: str
    default: Any
    comment: str

    def convert(self, value: Any) -> Any:
        """Return the value in the declared type; texts are read, other types never bent.

        Raises
        ------
        InputError
            The value is not of the declared type.
        """
        try:
            return _converted(value, self.type)
        except (TypeError, ValueError):
            raise InputError(
                f"parameter {self.name!r} is declared as {self.type} "
                f"(default {self.default!r}); {value!r} ({type(value).__name__}) is not one"
                + ('; write a list as \'["one", "two"]\'' if self.type.startswith("list") else "")
            ) from None


def read_parameters(source: str | Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook by name, in the order of its cell.

    Raises
    ------
    InputError
        The file is missing or no notebook, it has no cell tagged ``parameters``, or a line of
        that cell cannot be read.
    """
    from papermill import inspect_notebook

    source = Path(source)
    lines = _parameters_cell(source)
    found = inspect_notebook(source)
    parameters = {}
    for name, (annotation, default) in lines.items():
        seen = found.get(name)
        declared = annotation or type(default).__name__
        base = declared.split("[", 1)[0]
        if seen is None or base not in TYPES:
            raise InputError(
                f"{source.name}: parameter {name!r} is declared as {declared!r}; write "
                f"'{name}: TYPE = value  # comment' on one line, TYPE one of {', '.join(TYPES)}"
            )
        parameters[name] = Parameter(name, declared, default, seen["help"])
    return parameters


def check_parameters(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return ``given`` with every value in its declared type.

    Parameters
    ----------
    declared
        What :func:`read_parameters` returned.
    given
        Values by name; texts are converted.
    where
        Whose values they are, for the message.

    Raises
    ------
    InputError
        A name is unknown, or a value has another type.
    """
    checked = {}
    for name, value in given.items():
        if name not in declared:
            raise InputError(f"{where}: {unknown('parameter', name, declared)}")
        checked[name] = declared[name].convert(value)
    return checked


def _parameters_cell(source: Path) -> dict[str, tuple[str | None, Any]]:
    """Read names, annotations and defaults, so that no line is lost without a word."""
    if not source.is_file():
        near = sorted(path.name for path in source.parent.glob("*.ipynb"))
        raise InputError(unknown("notebook", source.name, near) + f" (looked for {str(source)!r})")
    try:
        notebook = nbformat.read(source, as_version=4)
    except Exception as error:  # nbformat raises half a dozen types for a broken file
        raise InputError(f"{str(source)!r} is not a notebook: {error}") from error
    kernel = notebook.metadata.get("kernelspec", {})
    language = kernel.get("language") or notebook.metadata.get("language_info", {}).get("name")
    if not (kernel.get("name") and language):
        raise InputError(
            f"{source.name}: the notebook names no kernel; open it in JupyterLab, choose "
            "Python 3 and save it"
        )
    if language.lower() not in ("python", "ipython"):
        raise InputError(
            f"{source.name}: the notebook is written in {language}; only Python can be run"
        )
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if not cells:
        raise InputError(
            f"{source.name}: no cell is tagged 'parameters'; tag the cell that sets them "
            "(JupyterLab: property inspector, Add tag)"
        )
    try:
        body = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise InputError(
            f"{source.name}: the parameters cell is not valid Python: {error}"
        ) from error
    return dict(_assignment(statement, source.name) for statement in body if _is_code(statement))


def _is_code(statement: ast.stmt) -> bool:
    return not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def _assignment(statement: ast.stmt, source: str) -> tuple[str, tuple[str | None, Any]]:
    try:
        if isinstance(statement, ast.AnnAssign):
            target, annotation = statement.target, ast.unparse(statement.annotation)
        else:
            (target,), annotation = statement.targets, None
        return target.id, (annotation, ast.literal_eval(statement.value))
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"{source}: the parameters cell may hold only lines 'name: type = value', "
            f"with a plain value; it has {ast.unparse(statement)!r}"
        ) from None


def _converted(value: Any, declared: str) -> Any:
    base, _, items = declared.partition("[")
    if base == "list":
        return _list(value, items.rstrip("]"))
    if base == "bool":
        if isinstance(value, str):
            return _WORDS[value.strip().lower()] if value.strip().lower() in _WORDS else _refuse()
        return value if isinstance(value, bool) else _refuse()
    if base == "str":
        return value if isinstance(value, str) else _refuse()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        _refuse()
    if base == "int":
        return int(value) if isinstance(value, int | str) else _refuse()
    number = float(value)
    return number if math.isfinite(number) else _refuse()


def _list(value: Any, items: str) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            try:
                value = ast.literal_eval(value)
            except SyntaxError:
                _refuse()
    if not isinstance(value, list | tuple):
        _refuse()
    return [_converted(item, items) for item in value] if items in TYPES else list(value)


def _refuse() -> Any:
    raise ValueError
