"""Staging, building and the generated pages, on a copy of the tree with stand-in notebooks."""

import base64
import contextlib
import io
import math
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document
from made.checkouts import copied
from made.networks import apt
from made.places import ROOT
from PIL import Image
from saliency_sanity.attribution.catalogue import CATALOGUE
from saliency_sanity.book.runs.cases import Case
from saliency_sanity.book.runs.copy_labels import marked
from saliency_sanity.book.runs.dependencies import notebook_files
from saliency_sanity.book.runs.runner import METADATA_KEY
from saliency_sanity.book.site import build as book
from saliency_sanity.book.site import pages
from saliency_sanity.networks.classifier import Classifier, Scaling
from saliency_sanity.similarity.metrics import METRICS
from torch import nn

GLUE = re.compile(r"\{glue:text\}`\.\./notebooks/([\w-]+)\.ipynb::(\w+):[^`]+`")
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001000531c2c50000000049454e44ae426082"
)


def glue_keys() -> dict[str, set[str]]:
    found = {}
    for page in (ROOT / "book").glob("*.md"):
        for notebook, key in GLUE.findall(page.read_text("utf8")):
            found.setdefault(notebook, set()).add(key)
    return found


def stand_in(
    name: str, profile: str = "quick", case: Case | None = None, **papermill
) -> nbformat.NotebookNode:
    """An executed notebook that holds every number the pages ask of ``name``, and no other."""
    outputs = [
        nbformat.v4.new_output(
            "display_data",
            {"application/papermill.record/text/plain": "0.5"},
            metadata={"scrapbook": {"name": key, "mime_prefix": "application/papermill.record/"}},
        )
        for key in sorted(glue_keys().get(name, ()))
    ]
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=1, outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {name}"), cell])
    done = {"exception": None, "start_time": "2026-01-01", "end_time": "2026-01-01"}
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "papermill": done | papermill,
        METADATA_KEY: {"profile": profile},
    }
    if case:
        stamp = {"case": case.name, "notebook": f"{case.notebook}.ipynb"}
        notebook.metadata[METADATA_KEY] |= stamp
    return notebook


def put(notebook: nbformat.NotebookNode, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def shown(figure: Path) -> bytes:
    """A stand-in for what the landing page shows."""
    return b"<p>stand-in</p>" if figure.suffix == ".html" else PIXEL


def plant(root: Path) -> Path:
    """The repository's book with stand-ins for its executed notebooks."""
    copied(root, "book", "_config.yml", "_toc.yml", "notebooks/cases.yaml")
    for figure in book.LANDING:
        path = root / "results" / figure
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shown(figure))
    toc, cases = book.profile_pages(root, "quick")
    for page in book.toc_files(toc):
        if page.startswith("notebooks/"):
            executed = stand_in(Path(page).name, case=cases.get(page))
            put(executed, root / "build/stage" / f"{page}.ipynb")
    return root


def plant_cases(tree: Path) -> Path:
    """A notebook with three cases beside the others, one of which runs in profile paper only."""
    cases = {name: {"title": name.title()} for name in ("apples", "pears")}
    cases["plums"] = {"title": "Plums", "profiles": ["paper"]}
    path = tree / "notebooks" / "cases.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"99_fruit": cases}))
    toc = yaml.safe_load((tree / "_toc.yml").read_text())
    files = [{"file": f"notebooks/99_fruit-{name}"} for name in cases]
    toc["parts"].append({"caption": "Fruit", "chapters": [files[0] | {"sections": files[1:]}]})
    (tree / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    for name in ("apples", "pears"):
        case = Case("99_fruit", name, name.title())
        executed = stand_in("99_fruit", case=case)
        executed.cells[0].source += "\n\n(basket)=\n## A basket\n\n{numref}`bowl`, {ref}`basket`"
        picture = {"image/png": base64.b64encode(PIXEL).decode()}
        executed.cells[1].outputs = [nbformat.v4.new_output("display_data", picture)]
        figure = {"name": "bowl", "caption": "A bowl, as in {numref}`bowl`."}
        executed.cells[1].metadata["mystnb"] = {"figure": figure}
        put(marked(executed, case), tree / "build/stage/notebooks" / f"{case.copy}.ipynb")
    return tree


@pytest.fixture
def tree(tmp_path):
    return plant(tmp_path / "tree")


@pytest.fixture
def cased(tree):
    return plant_cases(tree)


def stage(root: Path, profile: str = "quick") -> list[str]:
    return book.stage_tree(root, root / "build/stage", root / "results", profile)


def previous_site(root: Path) -> Path:
    site = root / "build/html"
    site.mkdir(parents=True)
    (site / "index.html").write_text("the previous site")
    return site


def test_staging_mirrors_the_repository(tree):
    staged = stage(tree)
    assert staged[0] == "book/index"
    assert {"notebooks/00_metrics", "notebooks/01_edge_detectors", "book/methods"} <= set(staged)
    for page in staged:
        assert any((tree / "build/stage" / f"{page}{end}").is_file() for end in (".md", ".ipynb"))
    for figure in book.LANDING:
        assert (tree / "build/stage/book" / figure).read_bytes() == shown(figure)


def test_staging_again_drops_what_is_gone(tree):
    stage(tree)
    left = tree / "build/stage/book/left_over.md"
    left.write_text("# Left over")
    stage(tree)
    assert not left.exists()
    assert (tree / "build/stage/notebooks/01_edge_detectors.ipynb").is_file()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "has not been executed"),
        (lambda path: path.write_text("{"), "not a readable notebook"),
        (lambda path: path.write_text("[]"), "not a readable notebook"),
        (lambda path: put(stand_in(path.stem, exception=True), path), "failed when"),
        (lambda path: put(stand_in(path.stem, end_time=None), path), "not executed to its end"),
        (lambda path: put(stand_in(path.stem, profile="smoke"), path), "ran in profile smoke"),
    ],
)
def test_refuses_a_notebook_that_is_not_done(tree, spoil, says):
    site = previous_site(tree)
    spoil(tree / "build/stage/notebooks/01_edge_detectors.ipynb")
    with pytest.raises(book.BookError, match=says) as error:
        book.build(root=tree)
    assert "01_edge_detectors" in str(error.value)
    assert "python -m saliency_sanity run notebooks/01_edge_detectors.ipynb" in str(error.value)
    assert (site / "index.html").read_text() == "the previous site"


def test_refuses_results_of_other_code(tree):
    source = stand_in("01_edge_detectors")
    put(source, tree / "notebooks/01_edge_detectors.ipynb")
    stage(tree)
    source.cells[1].source = "1 + 2"
    put(source, tree / "notebooks/01_edge_detectors.ipynb")
    with pytest.raises(book.BookError, match="has changed since it was executed"):
        stage(tree)


def test_an_injected_cell_is_no_change(tree):
    source = stand_in("01_edge_detectors")
    put(source, tree / "notebooks/01_edge_detectors.ipynb")
    executed = stand_in("01_edge_detectors")
    injected = nbformat.v4.new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]})
    executed.cells.insert(1, injected)
    put(executed, tree / "build/stage/notebooks/01_edge_detectors.ipynb")
    stage(tree)


def test_a_case_that_does_not_run_in_the_profile_has_no_page(cased):
    pages_now = {"notebooks/99_fruit-apples", "notebooks/99_fruit-pears"}
    assert set(stage(cased)) >= pages_now
    staged = book.read_toc(cased / "build/stage/_toc.yml")
    assert staged["parts"][-1]["chapters"] == [
        {"file": "notebooks/99_fruit-apples", "sections": [{"file": "notebooks/99_fruit-pears"}]}
    ]
    toc, cases = book.profile_pages(cased, "paper")
    assert {*pages_now, "notebooks/99_fruit-plums"} <= set(book.toc_files(toc))
    assert set(cases) >= {*pages_now, "notebooks/99_fruit-plums"}
    assert "notebooks/99_fruit-plums" not in book.profile_pages(cased, "quick")[1]


def test_contents_without_pages_hold_nothing_empty():
    contents = {
        "format": "jb-book",
        "root": "a",
        "parts": [
            {"caption": "gone", "chapters": [{"file": "b"}, {"file": "c"}]},
            {"caption": "left", "chapters": [{"file": "d", "sections": [{"file": "c"}]}]},
            {"caption": "up", "chapters": [{"file": "b", "sections": [{"file": "e"}]}]},
            {"caption": "link", "chapters": [{"url": "https://example.org"}]},
        ],
    }
    assert book.toc_without(contents, {"b", "c"}) == {
        "format": "jb-book",
        "root": "a",
        "parts": [
            {"caption": "left", "chapters": [{"file": "d"}]},
            {"caption": "up", "chapters": [{"file": "e"}]},
            {"caption": "link", "chapters": [{"url": "https://example.org"}]},
        ],
    }
    assert book.toc_without(contents, set()) == contents


def test_refuses_a_copy_of_another_case(cased):
    staged = cased / "build/stage/notebooks"
    stage(cased)
    shutil.copy(staged / "99_fruit-pears.ipynb", staged / "99_fruit-apples.ipynb")
    with pytest.raises(book.BookError, match="ran as case pears, but its page is that of case app"):
        stage(cased)
    (staged / "99_fruit-apples.ipynb").unlink()
    with pytest.raises(book.BookError, match="has not been executed") as error:
        stage(cased)
    remedy = "run notebooks/99_fruit.ipynb --case apples --profile quick"
    assert remedy in str(error.value)


def test_refuses_a_case_of_other_code(cased):
    source = stand_in("99_fruit")
    put(source, cased / "notebooks/99_fruit.ipynb")
    stage(cased)
    source.cells[1].source = "1 + 2"
    put(source, cased / "notebooks/99_fruit.ipynb")
    with pytest.raises(book.BookError, match=r"99_fruit\.ipynb has changed since"):
        stage(cased)


@pytest.mark.parametrize(("figure", "copy"), book.LANDING.items())
def test_refuses_without_something_that_the_landing_page_shows(tree, figure, copy):
    (tree / "results" / figure).unlink()
    notebook, _, case = copy.partition("-")
    run = rf"run notebooks/{notebook}\.ipynb {f'--case {case} ' if case else ''}--profile quick"
    with pytest.raises(book.BookError, match=rf"{figure.name} is missing: notebooks/.*{run}"):
        stage(tree)


def test_the_landing_page_shows_its_pictures_and_no_others(monkeypatch):
    """And the notebook, or what it imports, writes each of them."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "book/index.md").read_text("utf8")
    found = re.findall(r"(?:\{(?:figure|image)\}|:file:) (\S+)", text)
    assert found == [figure.as_posix() for figure in book.LANDING]
    for figure, copy in book.LANDING.items():
        sources = notebook_files(f"notebooks/{copy.partition('-')[0]}.ipynb")
        end = figure.stem.rpartition("-")[2] if copy in figure.stem else figure.stem
        texts = [Path(file).read_text("utf8") for file in sources]
        # Named after its copy, or after one of the five figures.
        names = (f"-{end}{figure.suffix}", f"{end}{figure.suffix}", "badge-{figure}.html")
        assert any(name in text for text in texts for name in names), figure


def test_refuses_a_page_that_does_not_exist(tree):
    (tree / "book/run.md").unlink()
    with pytest.raises(book.BookError, match="names book/run"):
        stage(tree)


def test_refuses_a_folder_that_is_no_repository(tmp_path):
    with pytest.raises(book.BookError, match=r"_toc\.yml is missing"):
        book.build(root=tmp_path)


@pytest.mark.slow
def test_a_warning_stops_the_build_and_keeps_the_previous_site(tree):
    site = previous_site(tree)
    (tree / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (tree / "book/index.md").write_text("# Small\n\n[](no_such_page.md)\n")
    with pytest.raises(book.BookError, match="no_such_page"):
        book.build(root=tree)
    assert [path.name for path in site.iterdir()] == ["index.html"]
    assert (site / "index.html").read_text() == "the previous site"
    assert "no_such_page" in (tree / "build/book.log").read_text()
    assert not list((tree / "build").glob(".*")), "temporary folders are left"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A tree with cases whose site has been built, and what was said."""
    root = plant_cases(plant(tmp_path_factory.mktemp("built")))
    (previous_site(root) / "old.html").write_text("old")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        index = book.build(root=root)
    assert index == root / "build/html/index.html"
    return root, said.getvalue()


@pytest.mark.slow
def test_the_site_replaces_the_previous_one(built):
    root, said = built
    site = root / "build/html"
    assert str(site / "index.html") in said
    assert not (site / "old.html").exists()
    assert not list((root / "build").glob(".*")), "temporary folders are left"
    methods = (site / "book/methods.html").read_text("utf8")
    for card in CATALOGUE.values():
        assert card.title in methods
    assert str(root) not in "".join(path.read_text("utf8") for path in site.rglob("*.html"))
    head = BeautifulSoup(methods, "html.parser").head
    assert head.select_one("[property='og:title']")["content"] == "Methods"
    assert "attribution method" in head.select_one("[name=description]")["content"]
    card = head.select_one("[property='og:image']")["content"]
    assert (site / "book" / card).resolve() == (site / pages.CARD).resolve()
    assert (site / pages.CARD).is_file()


@pytest.mark.slow
def test_the_pages_of_cases_lead_to_their_own_notebooks(built):
    """And define no label twice, else the build would fail."""
    site = built[0] / "build/html"
    assert not (site / "notebooks/99_fruit-plums.html").exists()
    for name in ("apples", "pears"):
        page = (site / f"notebooks/99_fruit-{name}.html").read_text("utf8")
        links = re.findall(r'href="([^"]*99_fruit[^"]*\.ipynb[^"]*)"', page)
        away = {link for link in links if link.startswith("http")}
        assert {link.split("/")[2] for link in away} == {
            "colab.research.google.com",
            "mybinder.org",
        }
        assert all(link.endswith(f"/launch/99_fruit-{name}.ipynb") for link in away)
        assert f"../_sources/notebooks/99_fruit-{name}.ipynb" in links
        assert f"99_fruit: {name.title()}" in page
        assert f'id="bowl-{name}"' in page
        assert f'href="#bowl-{name}"' in page
        assert f'href="#basket-{name}"' in page
    plain = (site / "notebooks/01_edge_detectors.html").read_text("utf8")
    assert "main/notebooks/01_edge_detectors.ipynb" in plain


def test_success_without_pages_is_a_failure(tmp_path):
    with pytest.raises(book.BookError, match=r"index\.html"):
        book.check_site(tmp_path, [])
    (tmp_path / "index.html").write_text('<meta content="0; url=book/index.html" />')
    book.check_site(tmp_path, [])
    with pytest.raises(book.BookError, match=r"book/run\.html"):
        book.check_site(tmp_path, ["book/run"])
    (tmp_path / "book").mkdir()
    (tmp_path / "book/run.html").write_text("<html>")
    with pytest.raises(book.BookError, match=r"book/run\.html"):
        book.check_site(tmp_path, ["book/run"])


def test_swap_puts_the_previous_site_back(tmp_path, monkeypatch):
    new, site = tmp_path / "new", tmp_path / "site"
    for folder in (new, site):
        folder.mkdir()
        (folder / "index.html").write_text(folder.name)
    replace = Path.replace

    def refuse(source, target):
        if source == new:
            raise OSError("no room")
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no room"):
        book.swap(new, site)
    assert (site / "index.html").read_text() == "site"


def test_mathjax_is_the_released_file(monkeypatch):
    assert book.mathjax().name == book.MATHJAX
    monkeypatch.setattr(book, "MATHJAX_SHA256", "0" * 64)
    with pytest.raises(book.BookError, match="force-reinstall"):
        book.mathjax()


# Generated pages


def test_methods_page_has_every_card():
    page = pages.methods_page(CATALOGUE)
    for name, card in CATALOGUE.items():
        section = page.split(f"(method-{name.replace('_', '-')})=", 1)[1].split("\n(", 1)[0]
        assert card.title in section
        assert card.formula in section
        assert repr(card.build()) in section
        assert all(key in section for key in card.sources)
        assert all(f"`{key}`: {value}" in section for key, value in card.defaults.items())
        if card.kind == "control":
            assert pages.KNOWN[name] in section, "a control without a known verdict"


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_matrix_says_what_happens(name):
    """Columns on passes and signs, against a run on a small network with random weights."""
    card = CATALOGUE[name]
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5)),
    )
    half = Scaling((0.5,) * 3, (0.5,) * 3)
    model = Classifier(network, name="small", weights="none", scaling=half, size=24, cam_layer="2")
    x, target, there, back = 2 * torch.rand(2, 3, 24, 24) - 1, torch.tensor([1, 3]), [], []
    if "attention" in card.needs:
        model, x = apt(name), x[:, :, :16, :16]
        card.build()(model, x, target)  # it is tried first whether there is a class token

    def count(_module, inputs, logits):
        there.append(len(inputs[0]))
        if logits.requires_grad:
            logits.register_hook(lambda gradient: back.append(len(gradient)))

    model.register_forward_hook(count)
    maps = card.build()(model, x, target)
    passes, signed = sum(back or there) / 2, bool((maps < 0).any())
    row = re.search(rf"^\| \[{re.escape(card.title)}\].*$", pages.methods_page(CATALOGUE), re.M)
    *_, stated, sign, _ = row[0].split("|")
    terms = stated.replace("K", "5").replace("C", "8").split("+")
    assert sum(math.prod(map(int, term.split("×"))) for term in terms) == passes
    assert sign == (" yes " if signed else " – ")
    for column, need in enumerate(pages.NEEDS, start=2):
        assert (row[0].split("|")[column] == " yes ") == (need in card.needs)


def test_metrics_page_has_every_card():
    page = pages.metrics_page(METRICS)
    for name, card in METRICS.items():
        section = page.split(f"(metric-{name.replace('_', '-')})=", 1)[1].split("\n(", 1)[0]
        assert card.title in section
        assert card.formula in section
        assert all(key in section for key in card.sources)
        for settings in card.settings().values():
            assert all(words in section for words in settings.values())


def test_no_work_stands_in_the_bibliography_twice():
    """A second entry of a key ends the reading of the file, so that all after it are missing."""
    text = (ROOT / "book/references.bib").read_text("utf8")
    found = re.findall(r"^@\w+\{\s*([^,\s]+)\s*,", text, flags=re.MULTILINE)
    assert len(found) > 50
    assert sorted(set(found)) == sorted(found)


def test_every_source_is_in_the_bibliography():
    keys = pages.bibliography_keys((ROOT / "book/references.bib").read_text("utf8"))
    for card in [*CATALOGUE.values(), *METRICS.values()]:
        assert set(card.sources) <= keys, card.name


def test_every_module_is_on_one_page_of_the_api():
    library = ROOT / "lib/saliency_sanity"
    modules = {path.relative_to(library).with_suffix("") for path in library.rglob("*.py")}
    names = {".".join(module.parts) for module in modules if "__" not in module.name}
    written = pages.api_pages()
    on = re.findall(r"automodule:: saliency_sanity\.([\w.]+)", "".join(written.values()))
    assert sorted(on) == sorted(names)
    contents = book.toc_files(book.read_toc(ROOT / "_toc.yml"))
    assert {page for page in contents if page.startswith("book/api")} == {
        f"book/{name}" for name in written
    }
    start, *parts = written
    assert start == "api"
    assert re.findall(r"\]\(([\w-]+)\.md\)", written[start]) == parts
    assert "automodule:: saliency_sanity.subjects.training.loop" in written["api-subjects"]
    assert "automodule:: saliency_sanity.book.cli" in written["api-book"]
    assert "chapters" not in "".join(re.findall("automodule.*", written["api-book"]))


def doctree(*paragraphs):
    section = nodes.section(
        "", nodes.title("", "A title"), nodes.note("", nodes.paragraph("", "no"))
    )
    section += [nodes.paragraph("", text) for text in paragraphs]
    tree = new_document("page")
    tree += section
    return tree


@pytest.mark.parametrize(
    ("paragraph", "says"),
    [
        ("One sentence.", "One sentence."),
        ("Over\n  two   lines.", "Over two lines."),
        ("A sentence of some length it is, which ends before 200. " + "word " * 60, None),
        ("The claim. " + "word " * 60, "The claim. " + "word " * 36 + "word…"),
    ],
)
def test_a_description_is_the_first_sentences(paragraph, says):
    found = pages.description(doctree(paragraph, "Another."))
    assert len(found) <= 200
    assert found == (says or "A sentence of some length it is, which ends before 200.")
    assert pages.description(doctree()) == ""


def test_a_link_to_a_page_has_a_title_a_description_and_a_picture():
    head = BeautifulSoup(
        pages.link_tags('Kappa > 0 & "signs"', "What is it?", "../card.png", "A book"),
        "html.parser",
    )
    assert {tag["property"]: tag["content"] for tag in head.select("[property]")} == {
        "og:type": "website",
        "og:site_name": "A book",
        "og:title": 'Kappa > 0 & "signs"',
        "og:description": "What is it?",
        "og:image": "../card.png",
    }
    assert head.select_one("[name=description]")["content"] == "What is it?"
    bare = pages.link_tags("Index", "", "card.png", "A book")
    assert "description" not in bare
    with Image.open(ROOT / "book" / pages.CARD) as card:
        assert card.size == (1200, 630)


@pytest.mark.parametrize(
    ("line", "cited"),
    [
        ("Equation 1 of [a2000b].", "Equation 1 of :cite:t:`a2000b`."),
        ("One window (a2000b).", "One window :cite:p:`a2000b`."),
        ("Source: a2000b, c-d.", "Source: :cite:t:`a2000b`, :cite:t:`c-d`."),
        (
            "[N, C, H, W], [x2000y], a2000bc, ``a2000b``",
            "[N, C, H, W], [x2000y], a2000bc, ``a2000b``",
        ),
    ],
)
def test_citations_in_docstrings(line, cited):
    lines = [line]
    pages.cite(lines, {"a2000b", "c-d"})
    assert lines == [cited]


# Configuration and hand-written pages


def test_configuration():
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    assert config["only_build_toc_files"] is True
    assert config["execute"]["execute_notebooks"] == "off"
    assert config["launch_buttons"]["colab_url"] == "https://colab.research.google.com"
    assert config["launch_buttons"]["binderhub_url"] == "https://mybinder.org"
    assert config["launch_buttons"]["thebe"] is False
    assert config["sphinx"]["recursive_update"] is True, "else the launch buttons are lost"
    assert not config["sphinx"]["config"]["mathjax_path"].startswith("http")
    assert config["sphinx"]["config"]["nb_ipywidgets_js"] == {}


def test_the_address_of_the_source_stands_in_one_place():
    address = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["repository"]["url"]
    host = address.split("://")[1]
    assert (ROOT / "_config.yml").read_text("utf8").count(host) == 1
    for page in (ROOT / "book").glob("*.md"):
        assert host not in page.read_text("utf8"), page.name
    # A notebook that Colab opens comes without the repository, so it must name it.
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        named = re.findall(r"git clone .*?(https://[^\s\"\\]+)", notebook.read_text("utf8"))
        assert set(named) == {address}, notebook.name


def test_messages_of_the_troubleshooting_table_exist():
    page = (ROOT / "book/run.md").read_text("utf8").split("## When something goes wrong")[1]
    code = [
        path.read_text("utf8")
        for path in [*(ROOT / "lib").rglob("*.py"), ROOT / "Makefile"]
        if path.exists()
    ]
    # Message texts are split over lines and hold braces; compare without either.
    text = re.sub(r'"\s*\n\s*f?"|\{what\} ', "", "\n".join(code))
    rows = re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        for part in filter(None, (part.strip() for part in row.split("…"))):
            assert part in text or part.removeprefix("unknown ") in text, part
