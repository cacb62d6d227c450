"""README, changelog and pages tell the truth of the code: names import, files are there."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from made.places import ROOT

LIBRARY = ROOT / "lib/saliency_sanity"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "_config.yml", "data/README.md")),
    *sorted((ROOT / "book").glob("*.md")),
    *sorted(path for folder in ("config", "grids") for path in (ROOT / folder).glob("*.yaml")),
]
# In the changelog, what the first column names is gone.
GONE = re.compile(r"^\| `.*?` \| ", re.MULTILINE)


def named(document: Path) -> set[str]:
    """Dotted names of the library, and what statements in code import from it."""
    text = document.read_text(encoding="utf-8")
    if document.name == "CHANGELOG.md":
        text = GONE.sub("", text)
    found = {name.rstrip(".") for name in re.findall(r"\bsaliency_sanity\.[\w.]+", text)}
    for line in re.findall(r"^ *(from saliency_sanity.*|import saliency_sanity.*)$", text, re.M):
        (node,) = ast.parse(line.strip()).body
        home = getattr(node, "module", "")
        found |= {".".join(filter(None, [home, alias.name])) for alias in node.names}
    return found


def there(name: str) -> bool:
    """Whether a name is a module or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part, None)
        return value is not None
    return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_names_can_be_imported(document):
    assert [name for name in sorted(named(document)) if not there(name)] == []


def test_the_documents_name_what_they_should():
    found = {path.relative_to(ROOT).as_posix(): named(path) for path in DOCUMENTS}
    assert "saliency_sanity.read" in found["README.md"]
    assert "saliency_sanity.probes.units.zero_at" in found["book/run.md"]
    assert "saliency_sanity.attribution.Compete" in found["CHANGELOG.md"]
    assert "saliency_sanity.subjects.training.Recipe" in found["config/quick.yaml"]


def test_a_name_that_is_not_there_is_found_out():
    assert there("saliency_sanity.verdict.read")
    assert not there("saliency_sanity.verdict.nothing")
    assert not there("saliency_sanity.nowhere.read")


def test_the_modules_that_the_changelog_lists_are_there():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("Other modules:")[1]
    listed = re.findall(r"^\| `.*` \| `([\w.]+)` \|$", text, re.MULTILINE)
    assert len(listed) > 20
    assert [name for name in listed if not there(f"saliency_sanity.{name}")] == []


FILE = re.compile(r"`(?:\.?[\w-]+/)+[\w.-]*`")
MADE = ("results/", "build/", "path/", "package/")


@pytest.mark.parametrize("name", ["README.md", "book/code.md"])
def test_files_that_are_named_are_there(name):
    """From the root or from the library; what running makes is not in the repository."""
    text = (ROOT / name).read_text(encoding="utf-8")
    files = {found.strip("`") for found in FILE.findall(text)}
    assert files
    kept = [file for file in sorted(files) if not file.startswith(MADE)]
    inside = [*LIBRARY.iterdir(), LIBRARY, ROOT, LIBRARY / "book"]
    gone = [file for file in kept if not any((folder / file).exists() for folder in inside)]
    assert gone == []


def test_each_package_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = text.split("## What is where")[1].split("Around it:")[0]
    packages = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", rows, re.MULTILINE)) == packages


def properties() -> list[tuple[str, str]]:
    """Public properties of the library, with the first line of what they say."""
    found = []
    for path in sorted(LIBRARY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            if any("property" in ast.unparse(wrapper) for wrapper in node.decorator_list):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                found.append((f"{path.relative_to(LIBRARY)}, {node.name}", first))
    return found


def test_no_property_says_what_is_read_as_its_type():
    """Sphinx takes what stands before a colon in a property's first line for its type."""
    found = properties()
    assert len(found) > 100
    assert not [name for name, first in found if ": " in first.partition("`")[0]]


def test_no_key_of_the_bibliography_stands_twice():
    """Behind a repeated key no other is read."""
    text = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{\s*([^,\s]+)", text, re.M)
    assert len(keys) > 40
    assert sorted(set(keys)) == sorted(keys)
