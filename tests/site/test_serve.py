"""`make serve`: the site at an address that it says, or one line that says why not."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from made.places import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def serve(folder: Path, port: object) -> list[str]:
    words = ["--no-print-directory", "--file", ROOT / "Makefile", "--directory", folder]
    return ["make", *map(str, words), "serve", f"PYTHON={sys.executable}", f"PORT={port}"]


@pytest.fixture
def site(tmp_path):
    page = tmp_path / "build" / "html" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("the book")
    return tmp_path


@pytest.fixture
def taken():
    """A socket that listens on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_the_site_is_at_the_address_that_is_said(site, taken):
    port = taken.getsockname()[1]
    taken.close()
    with subprocess.Popen(
        serve(site, port), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            address = re.search(r"http://localhost:\d+/", process.stdout.readline()).group()
            assert address == f"http://localhost:{port}/"
            # Its own line follows once it listens; through a pipe nothing of it is seen before.
            for attempt in range(100):
                try:
                    with urllib.request.urlopen(address, timeout=5) as answer:
                        assert answer.read() == b"the book"
                    break
                except urllib.error.URLError:
                    if attempt == 99:
                        raise
                    time.sleep(0.1)
        finally:
            os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("port", ["taken", 99999, "eight"])
def test_a_port_that_cannot_be_had_is_named_with_another(site, taken, port):
    port = taken.getsockname()[1] if port == "taken" else port
    said = subprocess.run(serve(site, port), capture_output=True, text=True, check=False)
    assert said.returncode
    assert f"cannot serve on port {port}" in said.stderr
    assert "make serve PORT=" in said.stderr
    assert "Traceback" not in said.stderr
    assert said.stdout == ""


def test_without_a_site_it_says_how_to_get_one(tmp_path):
    said = subprocess.run(serve(tmp_path, 0), capture_output=True, text=True, check=False)
    assert said.returncode
    assert "run 'make book' first" in said.stderr
