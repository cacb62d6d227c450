"""Notebooks and repositories made for a test, small enough to run in seconds."""

from pathlib import Path

import nbformat
import yaml

PARAMETERS = """\
# Scale
count: int = 3  # how many
rate: float = 0.5  # how fast
name: str = "plain"
flag: bool = True
sizes: list = [1, 2]  # of what
"""


def notebook(path: Path, *cells: str, parameters: str | None = PARAMETERS, kernel=True) -> Path:
    """Write a notebook: a parameters cell if there is one, then the given code cells."""
    content = nbformat.v4.new_notebook()
    if kernel:
        content.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
    if parameters is not None:
        cell = nbformat.v4.new_code_cell(parameters)
        cell.metadata["tags"] = ["parameters", "hide-input"]
        content.cells.append(cell)
    content.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, path)
    return path


def tag(path: Path, number: int, name: str) -> Path:
    """Tag a code cell of a notebook, counted from 0 with the parameters."""
    content = nbformat.read(path, as_version=4)
    content.cells[number].metadata["tags"] = [name]
    nbformat.write(content, path)
    return path


def text(path: Path, *sources: str) -> Path:
    """Put Markdown cells before the cells of a notebook."""
    content = nbformat.read(path, as_version=4)
    content.cells[:0] = [nbformat.v4.new_markdown_cell(source) for source in sources]
    nbformat.write(content, path)
    return path


def profile(folder: Path, name: str, networks: dict | None = None, **notebooks: dict) -> Path:
    """Write a profile."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    content = {"notebooks": notebooks} | ({"networks": networks} if networks else {})
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def cases(folder: Path, **notebooks: dict) -> Path:
    """Write the cases of the notebooks in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cases.yaml"
    path.write_text(yaml.safe_dump(notebooks, sort_keys=False), encoding="utf-8")
    return path


def outputs(path: Path) -> str:
    """All text that an executed notebook shows."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(
        item.get("text", "") or item.get("data", {}).get("text/plain", "")
        for cell in cells
        for item in cell.get("outputs", [])
    )
