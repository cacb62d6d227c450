"""Calls of counted methods, from zero in every test."""

import pytest
from made.experiments import Counted


@pytest.fixture(autouse=True)
def counting():
    Counted.calls.clear()
    Counted.fuse = None
    return Counted.calls
