"""A file for a method of one's own, with the contract in it."""

import importlib.util
import keyword
import os
import shutil
from pathlib import Path

from saliency_sanity._errors import InputError
from saliency_sanity._files import checkout, replacing
from saliency_sanity._markup import render

_PAGE = Path("notebooks/07_your_own_method.ipynb")


def write_method(name: str, folder: Path) -> Path:
    """Write ``NAME.py`` into a folder: a method that runs as it is, to be replaced by another.

    Raises InputError for a name that is none in Python, or another module's, and for a file that is
    there.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InputError(
            f"{name!r} cannot be the name of a function: letters, digits and underscores, no digit "
            "first and no word of Python's own; for instance my_map"
        )
    path = folder / f"{name}.py"
    for there in (path, folder / name):  # a folder of that name would hide the file
        if there.exists():
            raise InputError(f"{there.name} is there already: choose another name, or move it away")
    if importlib.util.find_spec(name) is not None:
        raise InputError(
            f"{name!r} is a module that is installed, and one of them would hide the other; choose "
            f"another name, as my_{name}"
        )
    with replacing(path) as temporary:
        temporary.write_text(render("book/new_method.py.j2", name=name) + "\n", encoding="utf-8")
    return path


def command(name: str, program: str) -> str:
    """What to type to have the row of a method in ``NAME.py``, from the current folder.

    ``program`` is what was typed: its name is enough where the shell finds the same file by it.
    """
    typed, found = Path(program), shutil.which(Path(program).name)
    if typed.suffix == ".py":
        program = "python -m saliency_sanity"
    elif found and typed.exists() and Path(found).samefile(typed):
        program = typed.name
    page = checkout() / _PAGE
    # Without a checkout there are no profiles, and the notebook is somebody's copy of it.
    run = f"run {os.path.relpath(page)} --profile quick" if page.exists() else f"run {page.name}"
    return f"{program} {run} \\\n    -p method {name}:{name} --output build/{name}.ipynb"
