"""Installed as a wheel, outside of a checkout: what works there, and what names the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from made.checkouts import copied
from made.notebooks import notebook, outputs

pytestmark = pytest.mark.slow

SHOW = """
import sys
import torch
import saliency_sanity
from saliency_sanity import Experiment, load_model, load_photographs, metric, resolve
assert saliency_sanity.__file__.startswith(sys.prefix), saliency_sanity.__file__
photographs = load_photographs(size=64, count=2)
model = load_model("resnet18", "none", device="cpu", seed=0)
x = model.scaling.to_network(photographs.pixels)
target = model.predict(x)
methods = {"gradient": resolve("gradient"), "sobel": resolve("sobel")}
maps = methods["gradient"](model, x, target)
metrics = {"spearman_abs": metric("spearman_abs")}
found = Experiment(model, x, target, methods, metrics, order="full", seeds=1)()
print(sys.prefix == prefix, tuple(maps.shape), type(found).__name__)
"""


def _called(words: list, check: bool = True, **where: Path) -> subprocess.CompletedProcess:
    without = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(words, env=without, capture_output=True, text=True, check=check, **where)


@dataclass
class Installed:
    """An environment with the wheel and nothing of a checkout, and an empty folder."""

    prefix: Path
    folder: Path

    def run(self, *words: str) -> subprocess.CompletedProcess:
        """What a command of the environment says in the empty folder."""
        return _called([self.prefix / "bin" / words[0], *words[1:]], cwd=self.folder, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("wheel")
    source = copied(folder / "source", "lib/saliency_sanity", "pyproject.toml")
    copied(source, "README.md", "LICENSE")
    venv.create(folder / "venv", symlinks=True)
    values = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    purelib = Path(sysconfig.get_path("purelib", "venv", values))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", folder / "dist", source]
    _called([*pip, *build])
    wheels = list((folder / "dist").glob("*.whl"))
    place = ["--python", folder / "venv"]
    _called([*pip, *place, "install", "--no-deps", "--no-index", *wheels])
    # What the wheel needs is installed here; of a path in a .pth file the .pth files are not read,
    # so that nothing leads to the checkout.
    (purelib / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "empty").mkdir()
    return Installed(folder / "venv", folder / "empty")


def test_a_notebook_runs_by_its_path_and_has_the_library(installed):
    source = notebook(
        installed.folder.parent / "else" / "mine.ipynb", SHOW, parameters='prefix = ""'
    )
    words = ("-p", "prefix", str(installed.prefix))
    said = installed.run("saliency-sanity", "run", str(source), "--quiet", *words)
    assert said.returncode == 0, said.stderr
    output = installed.folder / "build" / "stage" / "else" / "mine.ipynb"
    assert "True (2, 3, 64, 64) Outcome" in outputs(output)
    assert [path.name for path in source.parent.iterdir()] == ["mine.ipynb"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "cnn"], "belongs to the checkout (data/fashion_mnist)"),
        (["train", "cnn", "--profile", "quick"], "profiles are part of a checkout"),
        (["book"], "build the book from the root of the repository"),
    ],
)
def test_what_needs_the_checkout_names_it(installed, words, says):
    said = installed.run("saliency-sanity", *words)
    assert said.returncode in (1, 2)
    assert says in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1
