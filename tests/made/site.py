"""The book as `make book` makes it in profile smoke, kept between test runs.

Snakemake decides what of it is out of date, so it is a test of the workflow too.
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from filelock import FileLock
from made.places import ROOT

PROFILE = "smoke"
CHECKOUT = ROOT / "build" / PROFILE
SITE = CHECKOUT / "build" / "html"
STAGE = CHECKOUT / "build" / "stage"
RESULTS = CHECKOUT / "results"
FOLDERS = ("book", "config", "data", "examples", "lib", "notebooks", "workflow")
FILES = ("_config.yml", "_toc.yml", "requirements.lock")


def sources(root: Path) -> set[Path]:
    """Relative paths of what the workflow reads in a checkout."""
    found = {path for name in FOLDERS for path in (root / name).rglob("*") if path.is_file()}
    inside = {path.relative_to(root) for path in found} | {Path(name) for name in FILES}
    return {path for path in inside if not {"__pycache__"} & set(path.parts)}


def mirror(root: Path, target: Path) -> None:
    """Make ``target`` a copy of the checkout; a file with the same bytes keeps its time."""
    wanted = sources(root)
    for path in sources(target) - wanted:
        (target / path).unlink(missing_ok=True)
    for path in wanted:
        copy = target / path
        if not copy.is_file() or copy.read_bytes() != (root / path).read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, copy)


def snakemake(*words: str) -> None:
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"]
    # All cores, beside other workers' tests: what waits for the site ends last.
    command += ["--cores", str(os.cpu_count()), *words, "--config", f"profile={PROFILE}"]
    said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


@cache
def smoke_site() -> Path:
    """Folder of the pages; ``STAGE`` and ``RESULTS`` are there too. One process builds them."""
    CHECKOUT.mkdir(parents=True, exist_ok=True)
    stamp, session = CHECKOUT / "session", os.environ.get("PYTEST_XDIST_TESTRUNUID")
    with FileLock(f"{CHECKOUT}.lock"):
        if session and stamp.is_file() and stamp.read_text() == session:  # by another worker
            return SITE
        mirror(ROOT, CHECKOUT)
        if any(CHECKOUT.glob(".snakemake/locks/*")):  # of tests that were killed
            snakemake("--unlock")
        snakemake()
        stamp.write_text(session or "")
    return SITE
