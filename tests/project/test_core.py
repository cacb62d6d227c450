"""What the core does alone, what imports leave as it was, and what a missing extra says."""

import importlib.metadata
import subprocess
import sys
import tomllib
from functools import cache

import pytest
from made.places import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "lib").with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "lib/saliency_sanity").rglob("*.py")
)

# A module that is None here is as good as not installed.
HIDE = "import sys\nsys.modules.update(dict.fromkeys(sys.argv[1].split()))\n"

CORE = """
import torch
from torch import nn
from saliency_sanity import CATALOGUE, METRICS, Classifier, Scaling, metric, read, resolve
import saliency_sanity.attribution as parts
from saliency_sanity.contract import check_method
from saliency_sanity.networks import *
from saliency_sanity.randomization import Randomization, Randomizer, find_blocks, find_stages
from saliency_sanity.similarity import *
from saliency_sanity.verdict import cascade, table, verdict_table

for name in parts.__all__:
    getattr(parts, name)
torch.manual_seed(0)
layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 100, 5)
scaling = Scaling((0.5,) * 3, (0.5,) * 3)
model = Classifier(nn.Sequential(*layers), name="small", weights="none", scaling=scaling, size=12)
x = torch.randn(6, 3, 12, 12)
target = model.predict(x)
same = metric("spearman_abs")
for name, card in CATALOGUE.items():
    if not {"layer", "attention"} & set(card.needs):
        assert resolve(name)(model, x, target).shape[0] == 6, name
assert not check_method("gradient", resolve("gradient"), model, x, target)
maps = resolve("gradient")(model, x, target)
readings = {}
blocks = find_blocks(model, x)
with Randomizer(model, blocks, Randomization("permutation")) as randomizer:
    for stage in find_stages(blocks, "top_down"):
        randomizer.set(stage.blocks, seed=1)
        readings[stage.name] = read(same.matrix(resolve("gradient")(model, x, target), maps))
print(cascade(readings))
print(table(readings))
print(read(metric("ssim").matrix(maps, resolve("sobel")(model, x, target))))
"""


@cache
def outside_the_core() -> str:
    """Every module that only extras bring, as words."""
    todo, core = [*PROJECT["dependencies"]], {canonicalize_name(PROJECT["name"])}
    while todo:
        need = Requirement(todo.pop())
        name = canonicalize_name(need.name)
        if name not in core and (need.marker is None or need.marker.evaluate({"extra": ""})):
            core.add(name)
            try:
                todo += importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue  # a package for another platform
    brought = importlib.metadata.packages_distributions().items()
    found = {module for module, by in brought if core.isdisjoint(map(canonicalize_name, by))}
    assert {"papermill", "matplotlib", "timm", "torchvision", "zennit", "yaml"} <= found
    return " ".join(found - set(sys.stdlib_module_names))


def python(code: str, *words: str) -> str:
    said = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_the_core_works_where_no_extra_is_installed():
    assert "spearman" not in python(HIDE + CORE, outside_the_core())


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from saliency_sanity import load_model", "subjects"),
        ("from saliency_sanity import load_photographs", "subjects"),
        ("from saliency_sanity import Experiment", "subjects"),
        ("import saliency_sanity.probes.regions", "subjects"),
        ("import saliency_sanity.plots.ranking", "book"),
        ("import saliency_sanity.__main__", "book"),
    ],
)
def test_what_needs_an_extra_names_it(code, extra):
    tried = f"try:\n    {code}\nexcept ImportError as error:\n    print(error)"
    said = python(HIDE + tried, outside_the_core())
    assert f"run: pip install 'saliency-sanity[{extra}]'" in said


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import saliency_sanity", "torch numpy pandas matplotlib scipy skimage timm"),
        ("from saliency_sanity.verdict import read", "torch matplotlib skimage timm"),
        ("import saliency_sanity.book.cli", "torch matplotlib timm papermill"),
    ],
)
def test_an_import_brings_no_more_than_it_needs(code, absent):
    loaded = python(f"{code}\nimport sys\nprint(*sys.modules)").split()
    assert set(absent.split()).isdisjoint(loaded)


STATE = """
import importlib, os, socket, sys, warnings
import matplotlib, numpy, torch
from saliency_sanity.networks.compat import ensure_torchvision
ensure_torchvision()
import IPython, PIL.Image, huggingface_hub, pandas, papermill, seaborn, skimage.feature, timm

def state():
    return {
        "threads": torch.get_num_threads(),
        "torch's generator": torch.get_rng_state().tolist(),
        "its default type": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "NumPy's generator": [str(part) for part in numpy.random.get_state()],
        "NumPy's errors": numpy.geterr(),
        "warnings": list(warnings.filters),
        "matplotlib": dict(matplotlib.rcParams),
        "pandas": [pandas.get_option(name) for name in ("display.width", "mode.copy_on_write")],
        "environment": dict(os.environ),
        "path": list(sys.path),
        "folder": os.getcwd(),
    }

def refuse(*_):
    raise AssertionError("an import goes to the network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
for name in sys.argv[1:]:
    before = state()
    importlib.import_module(name)
    after = state()
    changed = [key for key in before if before[key] != after[key]]
    assert not changed, f"{name} changes {changed}"
"""


def test_imports_leave_everything_as_it_was():
    """Each module in turn; those of others, which do change something, are there already."""
    python(STATE, *MODULES)
