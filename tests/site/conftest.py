"""The built site and a server for it, for the files that look at its pages."""

import functools
import http.server
import threading

import pytest
from made.site import smoke_site


@pytest.fixture(scope="module")
def site():
    """The book built from its notebooks, which ran in profile smoke."""
    return smoke_site()


@pytest.fixture(scope="module")
def served(site):
    """Address of the site on a server of our own, on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
