"""The page for who comes from other libraries: its code runs, and is as alike as it says."""

import re

import numpy as np
import pytest
from made.networks import relative
from made.places import ROOT

PAGE = (ROOT / "book" / "coming_from.md").read_text(encoding="utf-8")


def run(heading: str) -> dict:
    """What the blocks of the introduction, and of a section, leave behind."""
    sections = re.split(r"^## ", PAGE, flags=re.M)
    (section,) = [text for text in sections if text.startswith(heading)]
    found: dict = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", sections[0] + section, re.S):
        # What a section writes twice is kept by its first name.
        exec(compile(block, "coming_from.md", "exec"), found)
    return found


def test_captum():
    pytest.importorskip("captum")
    found = run("A map, from Captum")
    assert relative(found["ours"], found["theirs"]) < 1e-10
    assert relative(found["adapted"], found["theirs"]) < 1e-10


def test_pytorch_grad_cam():
    pytest.importorskip("pytorch_grad_cam")
    found = run("A coarse map")
    ours, theirs = (np.asarray(found[key]).reshape(2, -1) for key in ("ours", "theirs"))
    assert ours.shape == theirs.shape
    for one, other in zip(ours, theirs, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.99


def test_quantus():
    pytest.importorskip("quantus")
    found = run("Random weights")
    assert found["theirs"]["original"] == pytest.approx(np.ones(4), abs=1e-6)
    assert {name for _, name, _ in found["readings"]} == {"spearman_abs"}
    ours = found["resolve"]("gradient")(found["net"], found["pictures"], found["labels"])
    assert relative(found["maps"], ours) < 1e-5
