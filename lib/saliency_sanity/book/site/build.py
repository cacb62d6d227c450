"""The site: stage the tree, run Jupyter Book on it, and put the result in place if it is whole."""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from saliency_sanity.book.runs.cases import Case, read_cases
from saliency_sanity.book.runs.pictures import light
from saliency_sanity.book.runs.stamp import METADATA_KEY
from saliency_sanity.book.runs.yaml_file import read_yaml, write_yaml
from saliency_sanity.book.site.coverage import write_coverage
from saliency_sanity.book.site.pages import write_pages
from saliency_sanity.book.site.weight import heavy_pages, heavy_pictures

# What the landing page shows of other pages, in its order, and the executed copies that write it.
_CARDS = {
    "edges": "01_edge_detectors",
    "weights": "02_cascading_randomization-photographs",
    "labels": "03_label_randomization-cnn",
    "competition": "04_cgi_sanity-cnn",
    "bias": "05_input_bias-photographs",
}
LANDING = {
    Path("figures/02_cascading_randomization-photographs-hero.html"): _CARDS["weights"],
    **{
        path: writer
        for figure, copy in _CARDS.items()
        for path, writer in (
            (Path(f"figures/{copy}-card.webp"), copy),
            (Path(f"figures/badge-{figure}.html"), "06_scoreboard"),
        )
    },
    Path("figures/scoreboard-narrow.png"): "06_scoreboard",
}

# MathJax 3.2.2 with SVG output: one file, its fonts inside, so that formulae show on pages opened
# from a disk, where browsers refuse to load fonts. The digest is that of the npm release.
MATHJAX = "tex-svg.js"
MATHJAX_PACKAGE = "sphinx-mathjax-offline"
MATHJAX_SHA256 = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"


class BookError(RuntimeError):
    """The site could not be built; the message names what is wrong and what to do."""


def read_toc(toc: Path) -> dict:
    """A table of contents as its file has it. Raises BookError when the file is missing."""
    try:
        return read_yaml(toc)
    except FileNotFoundError:
        raise BookError(
            f"{toc} is missing: build the book from the root of the repository, "
            "or pass that folder as root"
        ) from None


def toc_files(toc: dict) -> list[str]:
    """Every page of a table of contents, in reading order, without file extension."""

    def walk(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("file", "root"):
                    yield str(value)
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    return list(walk(toc))


def toc_without(toc: dict, pages: set[str]) -> dict:
    """A table of contents without ``pages``, and without the lists and parts that this empties.

    Pages below one of them move up into its place. ``toc`` stays as it is.
    """

    def kept(entries: list) -> Iterator[object]:
        for entry in entries:
            inner = {
                key: list(kept(value)) if isinstance(value, list) else value
                for key, value in entry.items()
            }
            lists = [key for key, value in entry.items() if isinstance(value, list)]
            if entry.get("file") in pages:
                for key in lists:
                    yield from inner[key]
            elif "file" in entry or not lists or any(inner[key] for key in lists):
                yield {key: value for key, value in inner.items() if value or key not in lists}

    return {
        key: list(kept(value)) if isinstance(value, list) else value for key, value in toc.items()
    }


def _code(notebook: dict) -> list[str]:
    """Sources of the code cells that a reader wrote, without the runner's injected one."""
    return [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]


def check_executed(copy: Path, source: Path, profile: str, case: str | None = None) -> None:
    """Refuse an executed notebook that would show something else than ``source`` computes.

    Raises BookError, with the notebook's name, when the executed ``copy`` is missing, cannot be
    read, stopped half way, failed, ran in another profile than ``profile`` or as another case
    than ``case``, or came from other code than ``source`` holds now. One that ran with parameters
    of its own, in no profile, is welcome.
    """
    remedy = (
        f"Run it with: python -m saliency_sanity run {source.parent.name}/{source.name} "
        f"{f'--case {case} ' if case else ''}--profile {profile}"
    )
    if not copy.is_file():
        raise BookError(f"{copy.name} has not been executed: {copy} is missing. {remedy}")
    try:
        executed = json.loads(copy.read_text(encoding="utf8"))
        papermill = executed["metadata"].get("papermill", {})
        stamp = executed["metadata"].get(METADATA_KEY, {})
        ran, ran_as = stamp.get("profile"), stamp.get("case")
        cells = _code(executed)
    except (ValueError, KeyError, TypeError) as error:
        raise BookError(f"{copy} is not a readable notebook ({error}). {remedy}") from error
    if papermill.get("exception"):
        raise BookError(
            f"{copy.name} failed when it was executed; the traceback is in {copy}. {remedy}"
        )
    if not papermill.get("end_time"):
        raise BookError(f"{copy.name} was not executed to its end ({copy}). {remedy}")
    if ran not in (None, profile):
        raise BookError(
            f"{copy.name} ran in profile {ran}, but the book is built for {profile}: {copy}. "
            f"{remedy}"
        )
    if ran_as != case:
        raise BookError(
            f"{copy.name} ran as case {ran_as or 'none'}, but its page is that of case "
            f"{case or 'none'}: {copy}. {remedy}"
        )
    if source.is_file() and _code(json.loads(source.read_text(encoding="utf8"))) != cells:
        raise BookError(
            f"{source.name} has changed since it was executed: {copy} would show results of "
            f"other code. {remedy}"
        )


def mathjax() -> Path:
    """Where the MathJax script of the installed package lies, checked against its digest.

    Raises BookError when the package is missing or holds another file.
    """
    try:
        files = importlib.metadata.files(MATHJAX_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise BookError(
            f"{MATHJAX_PACKAGE} is not installed; the site needs it to show formulae offline. "
            "Run: pip install -e '.[book]'"
        ) from None
    for file in files:
        if file.name == MATHJAX:
            script = Path(file.locate())
            if hashlib.sha256(script.read_bytes()).hexdigest() == MATHJAX_SHA256:
                return script
    raise BookError(
        f"{MATHJAX_PACKAGE} does not hold the MathJax 3.2.2 this book was made with. "
        f"Run: pip install --force-reinstall '{MATHJAX_PACKAGE}==0.0.2'"
    )


def profile_pages(root: Path, profile: str) -> tuple[dict, dict[str, Case]]:
    """The contents of the book in ``profile``, and the cases among its pages by page.

    A case that does not run in ``profile`` has no page there. Raises BookError when there is no
    table of contents, InputError when the cases cannot be read.
    """
    cases = {
        f"notebooks/{case.copy}": case
        for named in read_cases(root / "notebooks").values()
        for case in named.values()
    }
    absent = {page for page, case in cases.items() if not case.runs_in(profile)}
    toc = toc_without(read_toc(root / "_toc.yml"), absent)
    return toc, {page: case for page, case in cases.items() if page not in absent}


def stage_tree(root: Path, stage: Path, results: Path, profile: str) -> list[str]:
    """Lay out below ``stage`` everything that Jupyter Book reads, and give the pages' names.

    ``stage`` mirrors the repository, so that a page's Colab and Binder links name the committed
    source. Executed notebooks are there already, put by the runner; everything else is written
    anew. Raises BookError for a notebook that ``check_executed`` refuses, for something missing
    that the landing page shows and for a page of the table of contents that does not exist.
    """
    toc, cases = profile_pages(root, profile)
    pages = toc_files(toc)
    for page in pages:
        if page in cases:
            source = root / "notebooks" / f"{cases[page].notebook}.ipynb"
            check_executed(stage / f"{page}.ipynb", source, profile, cases[page].name)
        elif page.startswith("notebooks/"):
            check_executed(stage / f"{page}.ipynb", root / f"{page}.ipynb", profile)
    for figure, copy in LANDING.items():
        if not (results / figure).is_file():
            case = cases.get(f"notebooks/{copy}")
            source = f"notebooks/{case.notebook if case else copy}.ipynb"
            words = f"{source} {f'--case {case.name} ' if case and case.name else ''}"
            raise BookError(
                f"{results / figure} is missing: {source} writes it. Run: "
                f"python -m saliency_sanity run {words}--profile {profile}"
            )
    book = stage / "book"
    shutil.rmtree(book, ignore_errors=True)
    shutil.copytree(root / "book", book, ignore=shutil.ignore_patterns(".*"))
    (book / "figures").mkdir(exist_ok=True)
    for figure in LANDING:
        data = (results / figure).read_bytes()
        if figure.suffix == ".png":
            _, data = light(data, photographs=False)
        (book / figure).write_bytes(data)
    script = book / "_static" / "mathjax" / MATHJAX
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(mathjax(), script)
    write_pages(book)
    write_coverage(book)

    config = read_yaml(root / "_config.yml")
    config["parse"]["myst_substitutions"]["profile"] = profile
    write_yaml(config, stage / "_config.yml")
    write_yaml(toc, stage / "_toc.yml")

    for page in pages:
        if not any((stage / f"{page}{suffix}").is_file() for suffix in (".md", ".ipynb")):
            raise BookError(f"_toc.yml names {page}, but there is no such page in {root}")
    return pages


def _run_jupyter_book(stage: Path, output: Path, log: Path) -> None:
    command = [
        *(sys.executable, "-c", "from jupyter_book.cli.main import main; main()"),
        *("build", str(stage), "--config", str(stage / "_config.yml")),
        *("--toc", str(stage / "_toc.yml"), "--path-output", str(output)),
        *("-W", "--keep-going", "-n", "-q"),
    ]
    # No display for anything that a page might import.
    environment = {**os.environ, "MPLBACKEND": "agg"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    said = re.sub(r"\x1b\[[0-9;]*m", "", process.stdout + process.stderr)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(said, encoding="utf8")
    if process.returncode:
        lines = [line for line in said.splitlines() if "WARNING" in line or "ERROR" in line]
        told = "\n".join((lines or said.splitlines())[-20:])
        raise BookError(f"jupyter-book failed; its full output is in {log}\n{told}")


def check_site(site: Path, pages: list[str]) -> None:
    """Raise BookError unless every page of the book exists in ``site`` and has a body.

    Jupyter Book has exited with success without building anything, so its word is not enough.
    """
    # The root's index.html only sends a reader on to the landing page, and has no such end.
    for name, end in [("index", "book/index.html"), *((page, "</html>") for page in pages)]:
        page = site / f"{name}.html"
        if not page.is_file() or end not in page.read_text(encoding="utf8"):
            raise BookError(f"jupyter-book reported success, but did not write a whole {page}")


def swap(new: Path, site: Path) -> None:
    """Put folder ``new`` in the place of ``site``, which is back if that fails."""
    old = site.with_name(f".{site.name}.old-{os.getpid()}")
    if site.exists():
        site.replace(old)
    try:
        new.replace(site)
    except OSError:
        if old.exists():
            old.replace(site)
        raise
    shutil.rmtree(old, ignore_errors=True)


def build(
    profile: str = "quick",
    root: Path = Path(),
    stage: Path = Path("build/stage"),
    site: Path = Path("build/html"),
    results: Path = Path("results"),
) -> Path:
    """Build the site from executed notebooks and return its ``index.html``.

    ``stage``, ``site`` and ``results`` are relative to ``root``, the repository. ``profile`` is
    the one the notebooks ran in; the landing page states it. The build goes to a temporary folder
    beside ``site`` and replaces it only when whole: after an error the previous site is as it was.
    Every Sphinx warning is an error, a page or picture that is too heavy a warning. Raises
    BookError; InputError for YAML that cannot be read.
    """
    root = Path(root).resolve()
    stage, site, results = root / stage, root / site, root / results
    pages = stage_tree(root, stage, results, profile)
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".book-", dir=site.parent) as folder:
        _run_jupyter_book(stage, Path(folder), site.parent / "book.log")
        html = Path(folder) / "_build" / "html"
        check_site(html, pages)
        for line in [*heavy_pages(html, pages), *heavy_pictures(html, pages)]:
            print(f"WARNING: {line}", file=sys.stderr)
        swap(html, site)
    index = site / "index.html"
    print(f"The book is at {index}\nOpen it in a browser: {index.as_uri()}")
    return index
