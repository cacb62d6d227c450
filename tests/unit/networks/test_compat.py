"""torchvision imports beside whichever torch there is."""

import subprocess
import sys

import pytest
from saliency_sanity.networks import compat as shim

SCRIPT = """
from saliency_sanity.networks.compat import ensure_torchvision
first = ensure_torchvision()
import torch, torchvision, torchvision.transforms.v2
assert ensure_torchvision() == first
network = torchvision.models.resnet18(num_classes=3).eval()
assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
torchvision.transforms.v2.functional.resize(torch.zeros(3, 4, 4), [2, 2])
assert hasattr(torch.ops.torchvision, "nms")
print("declared" if first else "native")
"""


def test_torchvision_can_be_imported_in_a_fresh_interpreter():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() in ("declared", "native")


def test_schemas_are_declared_only_where_the_native_library_does_not_load(monkeypatch):
    loaded, declared = [], []

    class Library:
        def __init__(self, *names):
            pass

        def define(self, schema):
            declared.append(schema.split("(")[0])

    monkeypatch.setattr(shim, "_library", None)
    monkeypatch.setattr(shim.torch.library, "Library", Library)
    monkeypatch.setattr(shim.torch.ops, "load_library", loaded.append)
    assert shim.ensure_torchvision() is False
    assert len(loaded) >= 1
    assert declared == []

    def refuse(path):
        raise OSError("libcudart.so: cannot open shared object file")

    monkeypatch.setattr(shim.torch.ops, "load_library", refuse)
    assert shim.ensure_torchvision() is True
    assert declared == ["nms", "qnms"]
    assert shim.ensure_torchvision() is True
    assert len(declared) == 2, "declared once"


def test_missing_torchvision_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(shim, "_library", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"pip install 'saliency-sanity\[subjects\]'"):
        shim.ensure_torchvision()
