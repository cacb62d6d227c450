"""One thread a process, long files first, a browser, and networks that take a moment to build."""

import copy
import shutil
import signal

import made.one_thread  # noqa: F401  before torch is
import pytest
import torch
from made.networks import SmallTransformer, random_classifier, small
from made.places import ROOT
from saliency_sanity import Classifier, load_model

# A shell that starts the tests in the background has Ctrl-C ignored, and what they start and
# interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Files that take longest, in the order in which workers take them; the first builds the site.
LONGEST = (
    "site/test_browser.py",
    "workflow/test_cluster.py",
    "workflow/test_batch.py",
    "workflow/test_workflow.py",
    "pages/test_cgi_sanity.py",
    "pages/test_notebooks.py",
    "pages/test_input_bias.py",
    "site/test_build.py",
)
# Files that read the site or its results, too, and would wait for it.
LAST = (
    "pages/test_cascade.py",
    "pages/test_label_randomization.py",
    "site/test_accessibility.py",
)


def pytest_collection_modifyitems(items):
    """Long files first, so that workers end together; within a file the order stays."""

    def place(item):
        file = item.path.relative_to(ROOT / "tests").as_posix()
        if file in LAST:
            return len(LONGEST) + 1
        return LONGEST.index(file) if file in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def small_net() -> Classifier:
    return small()


@pytest.fixture(scope="session")
def small_net_double() -> Classifier:
    return small(torch.float64)


@pytest.fixture(scope="session")
def small_transformer() -> Classifier:
    return small(kind=SmallTransformer)


@pytest.fixture(scope="session")
def small_transformer_double() -> Classifier:
    return small(torch.float64, kind=SmallTransformer)


@pytest.fixture(scope="session")
def resnet() -> Classifier:
    return random_classifier("resnet18", 64)


@pytest.fixture(scope="session")
def resnet_double(resnet) -> Classifier:
    return copy.deepcopy(resnet).double()


@pytest.fixture(scope="session")
def vgg() -> Classifier:
    return random_classifier("vgg11", 64)


@pytest.fixture(scope="session")
def efficientnet() -> Classifier:
    return load_model("efficientnet_lite0", device="cpu")


@pytest.fixture(scope="session")
def inception() -> Classifier:
    return random_classifier("inception_v3", 96)


@pytest.fixture(scope="session")
def inception_double(inception) -> Classifier:
    return copy.deepcopy(inception).double()


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, one for a file; tests that ask for it skip where there is none."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian, Ubuntu: apt-get install chromium)")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
