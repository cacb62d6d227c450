"""The page on other libraries: every line has its test, and the version that is installed here."""

import ast
import re

from made.places import ROOT
from saliency_sanity.peers.differences import differences

CHECKS = ROOT / "tests" / "outside" / "test_libraries.py"
HOMES = {"pytorch_grad_cam": "grad-cam"}


def test_every_line_has_a_test_and_every_test_a_line():
    tree = ast.parse(CHECKS.read_text(encoding="utf-8"))
    names = [one.name for one in tree.body if isinstance(one, ast.FunctionDef)]
    tests = {name.removeprefix("test_") for name in names if name.startswith("test_")}
    assert tests == {line.key for line in differences()}


def test_versions_are_those_that_are_installed():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.M))
    for line in differences():
        assert pinned[HOMES.get(line.library, line.library)] == line.version, line.key


def test_what_the_tests_know_is_other_libraries_alone():
    assert "saliency_sanity" not in CHECKS.read_text(encoding="utf-8")
