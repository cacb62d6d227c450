"""The repository holds together: dependencies, notebooks, pages, and no trace of a machine."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from made.places import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
LOCK_LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
LOCK = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in LOCK_LINES)
}
PACKAGE = ROOT / "lib/saliency_sanity"
LIBRARY = sorted(PACKAGE.glob("**/*.py"))

STRIP = (
    "--keep-id",
    "--extra-keys",
    "metadata.papermill cell.metadata.papermill cell.metadata.execution "
    "metadata.language_info.version",
)


def tracked() -> list[Path]:
    """Files that are, or on the next commit would be, in the repository."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        generated = {".venv", "build", "results", ".snakemake", ".git"}
        files = (path for path in ROOT.rglob("*") if path.is_file())
        return [path for path in files if generated.isdisjoint(path.relative_to(ROOT).parts)]
    return [ROOT / name for name in said.split("\0") if name and (ROOT / name).is_file()]


def requirements(*extras: str) -> list[Requirement]:
    """What the core and these extras bring; an extra may name others of this package."""
    found = [Requirement(line) for line in PROJECT["dependencies"]]
    for extra in extras:
        for item in map(Requirement, EXTRAS[extra]):
            found += requirements(*item.extras) if item.name == PROJECT["name"] else [item]
    return list(dict.fromkeys(found))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def extras_of(line: str) -> set[str]:
    return set(re.search(r"\[([a-z,]+)\]", line).group(1).split(","))


@pytest.mark.parametrize("requirement", requirements(*EXTRAS), ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement):
    version = LOCK.get(canonicalize_name(requirement.name))
    assert version, f"{requirement.name} is not in requirements.lock"
    assert requirement.specifier.contains(version, prereleases=True)


def test_the_lock_is_whole_and_fits_every_platform():
    """What the pinned packages need here is pinned too; nothing is bound to one platform."""
    todo = [canonicalize_name(item.name) for item in requirements(*EXTRAS)]
    seen = set()
    while todo:
        name = todo.pop()
        if name in seen or name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        seen.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here, or a package for another platform
        for line in needs:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(need.name))
    seen -= {"pip", "setuptools"}
    assert seen <= LOCK.keys(), "requirements.lock lacks these"


def test_every_pin_is_one_plain_version():
    """A local build such as +cpu exists in one place only; drivers belong to one platform."""
    versions = {name: Version(version) for name, version in LOCK.items()}
    assert [line for line in LOCK_LINES if line.count("==") != 1] == []
    assert [name for name, version in versions.items() if version.local] == []
    assert [name for name in versions if re.match(r"(nvidia|cuda|triton)", name)] == []


def test_the_lock_is_sorted_without_doubles():
    assert sorted(set(LOCK_LINES)) == LOCK_LINES
    assert len(LOCK) == len(LOCK_LINES)


def test_jupyter_book_stays_below_2():
    """Jupyter Book 2 ignores _config.yml, builds nothing, and exits with success."""
    (requirement,) = [item for item in requirements("book") if item.name == "jupyter-book"]
    assert not requirement.specifier.contains("2.0", prereleases=True)
    assert requirement.specifier.contains("1.0.4")
    assert Version(LOCK["jupyter-book"]) < Version("2")


def test_conda_installs_every_extra_within_the_same_lock():
    python, pip, block = ENVIRONMENT["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    constraint, project = block["pip"]
    assert constraint == "-c requirements.lock"
    assert project.startswith("-e .[")
    named = extras_of(project)
    assert named <= set(EXTRAS)
    assert set(requirements(*named)) == set(requirements(*EXTRAS))


def test_make_installs_extras_that_exist_within_the_same_lock():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = set(re.search(r"^EXTRAS\s*:=\s*(\S+)", makefile, re.MULTILINE).group(1).split(","))
    assert {"book", "workflow", "test", "lint"} <= extras <= set(EXTRAS)
    installs = re.findall(r"pip install .*", makefile)
    assert installs
    assert all("-c requirements.lock" in line for line in installs)


def imported(path: Path) -> set[str]:
    """Packages of others that a module names, wherever in it it does."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module)
    return {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names)


# The extra that brings what a package imports; those not named here are the core's.
EXTRA_OF = {
    "subjects": "subjects",
    "experiments": "subjects",
    "peers": "peers",
    "probes": "subjects",
    "plots": "book",
}
EXTRA_OF |= {"_markup.py": "book", "_schema.py": "subjects", "book": "book", "__main__.py": "book"}


def extra_of(path: Path) -> list[str]:
    place = path.relative_to(PACKAGE)
    found = (EXTRA_OF.get(part.as_posix()) for part in (place, *place.parents))
    return [extra for extra in found if extra]


@cache
def distributions() -> dict[str, list[str]]:
    return importlib.metadata.packages_distributions()


def test_the_core_needs_no_notebook_machinery():
    assert {item.name for item in requirements()} == {
        *("torch", "numpy", "scipy", "scikit-image", "pandas", "tqdm"),
        "lazy-loader",  # which scikit-image brings too
    }


@pytest.mark.parametrize("path", LIBRARY, ids=module_of)
def test_every_import_is_declared_in_the_core_or_the_extra_of_its_package(path):
    declared = {canonicalize_name(item.name) for item in requirements(*extra_of(path))}
    if extra_of(path) == ["book"]:
        declared |= {"sphinx", "docutils"}  # which Jupyter Book brings as it can bear them
    for module in imported(path) - {"saliency_sanity"}:
        names = {canonicalize_name(name) for name in distributions().get(module, [])}
        assert names & declared, f"{module_of(path)} imports {module}"


CORE = ("networks", "attribution", "similarity", "verdict", "randomization")


def test_the_core_can_be_read_in_one_sitting():
    files = [path for path in LIBRARY if path.relative_to(PACKAGE).parts[0] in CORE]
    assert files
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) < 9600


@pytest.mark.parametrize("path", LIBRARY, ids=module_of)
def test_a_module_is_named_after_what_is_in_it(path):
    assert path.stem not in ("utils", "util", "helpers", "common", "misc")


NOTEBOOKS = [path for path in tracked() if path.suffix == ".ipynb"]


def test_no_notebook_holds_outputs():
    assert NOTEBOOKS
    words = [sys.executable, "-m", "nbstripout", *STRIP, "--verify", *map(str, NOTEBOOKS)]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_make_lint_strips_what_the_test_verifies():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f'{STRIP[0]} {STRIP[1]} "{STRIP[2]}"' in makefile


FOLDERS = ("home", "Users", "root", "tmp", "work", "mnt", "private", "var/folders", "opt/conda")
MACHINE_PATH = re.compile(
    r"(?<![\w.\-/}])/(?:" + "|".join(FOLDERS) + r")(?:/[\w.\-]|(?=[\"'`\s]|$))"
    r"|file:///\w"
    r"|\b[A-Za-z]:\\+Users\\"
)


def test_no_file_names_a_folder_of_somebodys_machine():
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a picture or another binary
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line[:200]}"
            for number, line in enumerate(lines, start=1)
            if MACHINE_PATH.search(line)
        ]
    assert found == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_machine_path_pattern_finds_what_it_should(folder):
    assert MACHINE_PATH.search(f"see '/{folder}/someone/x.py'")
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/page and lib/{folder}/x")


def pages_of(node) -> list[str]:
    if isinstance(node, list):
        return [page for item in node for page in pages_of(item)]
    if not isinstance(node, dict):
        return []
    here = [node[key] for key in ("root", "file") if key in node]
    return here + [page for value in node.values() for page in pages_of(value)]


def test_every_page_of_the_contents_exists_and_every_notebook_is_in_them(tmp_path):
    from saliency_sanity.book.runs.cases import all_copies
    from saliency_sanity.book.site.pages import write_pages

    write_pages(tmp_path)
    written = {f"book/{path.stem}" for path in tmp_path.glob("*.md")}
    pages = pages_of(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    kept = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in tracked()
        if path.suffix in (".md", ".ipynb")
    }
    assert pages
    assert len(pages) == len(set(pages))
    # A page of a case is an executed copy; what is kept is the notebook.
    copies = all_copies(ROOT / "notebooks")
    copied = {f"notebooks/{copy}": f"notebooks/{case.notebook}" for copy, case in copies.items()}
    pages = {copied.get(page, page) for page in pages}
    assert not pages - kept - written, "_toc.yml names these, which do not exist"
    notebooks = {page for page in kept if page.startswith("notebooks/")}
    assert not notebooks - pages, "no page of the book shows these"


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert citation["authors"] == PROJECT["authors"]


def test_the_lint_settings_cover_every_python_file():
    """ruff finds its files itself; none may be hidden from it by a setting."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert not {"exclude", "extend-exclude"} & settings.keys()
