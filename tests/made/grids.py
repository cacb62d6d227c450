"""Grids made for a test: of one small notebook, in the current folder or in a checkout."""

from pathlib import Path

import yaml
from made.checkouts import small_checkout
from made.notebooks import PARAMETERS, notebook, tag
from saliency_sanity.book.grid.spec import Grid, read_grid

NUMBERS, NO_NUMBERS = "similarity/prepare", "book/grid/summary"
DECLARED = """\
count: int = 3  # rows
rate: float = 0.5  # scale
name: str = "plain"
results: str = "results"
"""
WRITES = """\
from pathlib import Path
import numpy as np
import pandas as pd

if name == "bad":
    raise ValueError("no such thing")
while name == "slow" and not Path("go").exists():
    time.sleep(0.1)
(Path(results) / "tables").mkdir(parents=True, exist_ok=True)
values = rate * np.random.default_rng(count).normal(size=count)
table = pd.DataFrame({"draw": range(count), "value": values})
table.to_parquet(Path(results) / "tables" / "one.parquet")
store = Path(results) / "store"
store.mkdir(exist_ok=True)
(store / name).touch()
"""
SHARDS = """\
if shard:
    if name == "bad" and shard == "2/2" and not Path("mended").exists():
        raise ValueError("no such map")
    while name == "slow" and shard == "2/2" and not Path("go").exists():
        time.sleep(0.1)
    store = Path(results) / "store"
    (store / f"{name}-{shard.replace('/', 'of')}").touch()
"""
GRID = {"notebook": "one", "parameters": {"rate": 2}, "grid": {"count": [1, 2]}}


def write_grid(folder: Path, **content) -> Path:
    """Write grids/small.yaml of a checkout."""
    (folder / "grids").mkdir(exist_ok=True)
    (folder / "grids" / "small.yaml").write_text(yaml.safe_dump(GRID | content, sort_keys=False))
    return folder


def grid_checkout(folder: Path, **content) -> Path:
    """A checkout with one notebook, a grid, and the workflow."""
    # What a notebook imports counts, whether or not the line is reached.
    first = "import time\nif count < 0:\n    import saliency_sanity.similarity.prepare"
    notebook(folder / "notebooks" / "one.ipynb", first, WRITES, parameters=DECLARED)
    small_checkout(folder, NUMBERS, NO_NUMBERS)
    return write_grid(folder, **content)


def shards_checkout(folder: Path, **content) -> Path:
    """The same with two shards of each cell."""
    grid_checkout(folder, shards=2, **content)
    source = folder / "notebooks" / "one.ipynb"
    declared = DECLARED + 'group: int = 4\nshard: str = ""\n'
    first = "import time\nfrom pathlib import Path"
    notebook(source, first, SHARDS, WRITES.replace('"bad"', '"worse"'), parameters=declared)
    tag(source, 2, "shard")
    return folder


def grid_here(declared: str = "", **content) -> Grid:
    """A grid in the current folder, of a notebook that nobody runs."""
    parameters = PARAMETERS + 'results: str = "results"\n' + declared
    notebook(Path("notebooks/one.ipynb"), parameters=parameters)
    Path("small.yaml").write_text(yaml.safe_dump({"notebook": "one", **content}, sort_keys=False))
    return read_grid("small.yaml")
