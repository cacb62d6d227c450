"""Which files of the library a notebook or a module depends on, followed from its imports.

What they say is taken from their text; nothing is imported. So a change of a chart is a reason to
run those notebooks again that draw it, and no list of modules has to be kept by hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

LIBRARY = Path("lib/saliency_sanity")
# What runs every notebook, whatever that imports.
_RUNS = "book/runs"
_PYTHON = (".py", ".pyi", ".pyc")
# A line for IPython, which Python cannot read.
_MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)


def notebook_files(source: str | Path, library: str | Path = LIBRARY) -> list[str]:
    """Files of ``library`` that a notebook's cells import, and those that run it, all the way down.

    Sorted, and without those that are not there.
    """
    library = Path(library)
    cells = nbformat.read(source, as_version=4).cells
    found = set()
    for cell in cells:
        if cell.cell_type == "code":
            found |= set(_named(library, library.name, _MAGIC.sub(r"\1pass", cell.source)))
    runs = (library / _RUNS).glob("*.py")
    return _files(library, found | {_module(library, path) for path in runs})


def module_files(*modules: str, library: str | Path = LIBRARY) -> list[str]:
    """Files of ``library`` that modules are and import, all the way down; sorted.

    A module is named in full, as in ``saliency_sanity.subjects.training.loop``.
    """
    return _files(Path(library), set(modules))


def own_files(values: Iterable[Any]) -> list[str]:
    """Files in this checkout of what parameters name as ``package.module:name``; sorted."""
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    named = [text.partition(":")[0] for text in texts if isinstance(text, str) and ":" in text]
    files = [Path(*name.split(".")).with_suffix(".py") for name in named]
    return sorted({str(file) for file in files if file.is_file()})


def _files(library: Path, todo: set[str]) -> list[str]:
    seen: set[str] = set()
    found: set[Path] = set()
    while todo:
        module = todo.pop()
        seen.add(module)
        path = _path(library, module)
        if path is None:
            continue
        found.add(path)
        if path.name != "__init__.py":
            found |= set(_data(path.parent))
        # A package is loaded before what is in it.
        todo |= {module.rpartition(".")[0], *_imports(library, module)} - seen - {""}
    return sorted(map(str, found))


def _path(library: Path, module: str) -> Path | None:
    place = library.parent.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


def _module(library: Path, path: Path) -> str:
    parts = path.relative_to(library.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _data(folder: Path) -> Iterator[Path]:
    """Cards, templates and the like: what lies in a package, or below it outside of others."""
    for path in folder.iterdir():
        if path.is_file() and path.suffix not in _PYTHON:
            yield path
        elif path.is_dir() and path.name != "__pycache__" and not any(path.glob("*.py")):
            yield from _data(path)


@cache
def _imports(library: Path, module: str) -> frozenset[str]:
    path = _path(library, module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return frozenset(_named(library, package, path.read_text(encoding="utf-8")))


def _named(library: Path, package: str, code: str) -> Iterator[str]:
    """Modules of the library that ``code`` imports, wherever in it; it stands in ``package``."""
    try:
        nodes = list(_nodes(ast.parse(code)))
    except SyntaxError:
        return  # whoever runs it says so
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _within(library, alias.name)
                if alias.name == library.name:  # and then any of its names
                    yield from _reexported(library, alias.name, "*")
        elif isinstance(node, ast.ImportFrom):
            home = _absolute(package, node)
            yield from _within(library, home)
            for alias in node.names:
                yield from _within(library, f"{home}.{alias.name}")
                yield from _reexported(library, home, alias.name)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``, which never run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _nodes(node)


def _absolute(package: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *filter(None, [node.module])])


def _within(library: Path, module: str) -> Iterator[str]:
    if module.partition(".")[0] == library.name and _path(library, module):
        yield module


def _reexported(library: Path, package: str, name: str) -> Iterator[str]:
    """Where a package's stub has a name from, which its lazy ``__init__`` loads; all for ``*``."""
    if package.partition(".")[0] != library.name:
        return
    stub = library.parent.joinpath(*package.split("."), "__init__.pyi")
    if not stub.is_file():
        return
    for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if name in ("*", alias.asname or alias.name):
                    home = _absolute(package, node)
                    yield from _within(library, home)
                    yield from _within(library, f"{home}.{alias.name}")
