"""Checkouts made for a test: parts of this one, and small ones in which a run takes seconds."""

import shutil
from pathlib import Path

from made.places import ROOT


def copied(folder: Path, *names: str) -> Path:
    """Put files and folders of this checkout into another."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def library(folder: Path, module: str, content: str = "one = 1\n") -> None:
    """Write a module of the checkout's library, which no run imports: only its change counts."""
    path = folder / "lib" / "saliency_sanity" / f"{module}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def small_checkout(folder: Path, *modules: str) -> Path:
    """The workflows in a checkout with a library of ``modules``; notebooks are the test's."""
    copied(folder, "workflow", "requirements.lock")
    (folder / "_config.yml").write_text("title: small\n")
    for module in modules:
        library(folder, module)
    return folder
