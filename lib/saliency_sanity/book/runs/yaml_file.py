"""Files of YAML: the one place that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from saliency_sanity._errors import InputError


def read_yaml(path: str | Path, name: str | None = None) -> Any:
    """Return what a file of YAML holds; an empty one holds an empty mapping.

    Parameters
    ----------
    path
        The file.
    name
        What the message calls it; by default the file's own name.

    Raises
    ------
    InputError
        It is not YAML; the message names line and column.
    FileNotFoundError
        It is not there.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        said = ", ".join(filter(None, [error.context, error.problem]))
        raise InputError(f"{name or path.name} is not YAML: {place}{said}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{name or path.name} is not YAML: {said}") from error
    return {} if content is None else content


def write_yaml(content: Any, path: str | Path) -> None:
    """Write YAML, keys in their order."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")
