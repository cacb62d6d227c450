"""Sources folded section by section, the line on the run, and sections with nothing to say."""

import io

import nbformat
import pytest
from bs4 import BeautifulSoup
from saliency_sanity.book.runs.stamp import METADATA_KEY
from saliency_sanity.book.site.fold import CODE, PARAMETERS, duration, run_line
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace


def code(source: str, *tags: str, shows: str = "") -> nbformat.NotebookNode:
    outputs = [nbformat.v4.new_output("stream", text=shows)] if shows else []
    cell = nbformat.v4.new_code_cell(source, execution_count=1, outputs=outputs)
    cell.metadata["tags"] = list(tags)
    return cell


def shown_as_markdown(said: str) -> nbformat.NotebookNode:
    data = {"text/markdown": said, "text/plain": "<Markdown>"}
    cell = code("page.claims.summary", "remove-input")
    cell.outputs = [nbformat.v4.new_output("display_data", data)]
    return cell


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Articles of three pages: of a notebook in a run, of one by hand, and one of Markdown."""
    root = tmp_path_factory.mktemp("fold")
    text = nbformat.v4.new_markdown_cell
    cells = [
        text("# One\n\nThe claim."),
        code("count = 1", "parameters", "hide-input"),
        code("count = 2", "injected-parameters", "hide-input"),
        code("import this_page", "hide-input"),
        text("## Maps\n\nText before."),
        code("first()", "hide-input", shows="output of the first"),
        text("Text between."),
        code("second()", "hide-input", shows="output of the second"),
        code("in_the_open()", shows="seen"),
        text("### Below\n\nText below."),
        code("third()", "hide-input"),
        text("## Norms\n\nA text on norms."),
        code("norms()", "hide-input", "section-if-shown"),
        text("## Ceiling\n\nA text on the ceiling."),
        code("ceiling()", "hide-input", "section-if-shown", shows="a ceiling"),
        code("long()", "hide-input", "hide-output", shows="a long table"),
        text("## The verdict\n\nOf **2 networks**."),
        shown_as_markdown("**3 claims: 1 reproduced, 2 inconclusive.** More of them."),
        text("```{container} next-page\nThe next page.\n```"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    plain = nbformat.v4.new_notebook(cells=[text("# By hand"), code("a = 1", "hide-input")])
    plain.metadata = dict(notebook.metadata)
    stamp = {"seconds": 241.0, "threads": 2, "profile": "quick", "parameters": {"image_count": 10}}
    notebook.metadata[METADATA_KEY] = stamp
    nbformat.write(notebook, root / "one.ipynb")
    nbformat.write(plain, root / "hand.ipynb")
    (root / "index.md").write_text("# Start\n\n```{toctree}\none\nhand\n```\n")
    settings = {
        "extensions": ["myst_nb", "saliency_sanity.book.site.fold"],
        "nb_execution_mode": "off",
        "html_theme": "basic",
    }
    said = io.StringIO()
    where = (root, None, root / "out", root / "doctrees")
    # Sphinx registers its nodes for the whole process, and warns of those it finds.
    with docutils_namespace():
        Sphinx(*where, "html", settings, status=None, warning=said).build()
    assert said.getvalue() == ""
    return {
        name: BeautifulSoup((root / f"out/{name}.html").read_text("utf8"), "html.parser")
        for name in ("index", "one", "hand")
    }


def sources(fold) -> list[str]:
    return [block.text.strip() for block in fold.select("div.highlight")]


def test_each_section_that_shows_something_has_one_fold_with_all_its_sources(pages):
    body = pages["one"].select_one("div.body")
    folds = body.select("details.fold")
    assert [(fold.summary.text, sources(fold)) for fold in folds] == [
        (PARAMETERS, ["count = 1", "count = 2"]),
        (CODE, ["import this_page", "first()", "second()"]),
        (CODE, ["third()"]),
        (CODE, ["ceiling()", "long()"]),
    ]
    assert not any(fold.has_attr("open") for fold in folds)
    (hidden,) = body.select("details.hide")
    assert hidden.select_one("div.cell_output").text.strip() == "a long table"
    said = body.get_text()
    for cell in ("first()", "second()", "third()", "in_the_open()", "ceiling()"):
        assert said.count(cell) == 1


def test_outputs_and_open_sources_stay_before_the_fold(pages):
    said = pages["one"].select_one("div.body").get_text()
    order = (
        *("Text before.", "output of the first", "Text between.", "output of the second"),
        *("in_the_open()", "seen", CODE + "\n", "first()", "second()", "Text below.", "third()"),
        *("a ceiling", "ceiling()", "The next page."),
    )
    places = [said.index(part, said.index("Text before.")) for part in order]
    assert places == sorted(places)


def test_the_top_says_what_the_copy_took_and_its_parameters(pages):
    head, claim = pages["one"].select_one("h1").find_next_siblings(limit=2)
    line, fold, claims = head.find_all(recursive=False)
    assert line.text == "This copy: 4 min on 2 cores, 10 pictures, profile quick."
    assert fold.summary.text == PARAMETERS
    assert claim.text == "The claim."
    assert claims.text == "3 claims: 1 reproduced, 2 inconclusive."
    assert pages["one"].select_one(claims.a["href"]).h2.text.startswith("The verdict")
    assert not pages["hand"].select(".this-copy")
    assert not pages["index"].select(".this-copy, details")


def test_a_section_without_what_it_is_about_is_not_there(pages):
    said = pages["one"].get_text()
    assert "norms" not in said.lower()
    assert "A text on the ceiling." in said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (241, "4 min"),
        (3600, "1 h"),
        (4800, "1 h 20 min"),
    ],
)
def test_durations_are_those_one_plans_with(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("stamp", "text"),
    [
        ({}, ""),
        ({"profile": "quick"}, ""),
        ({"seconds": 60}, "This copy: 1 min."),
        ({"seconds": 60, "threads": 1}, "This copy: 1 min on 1 core."),
        ({"seconds": 2, "parameters": {"image_count": 0}}, "This copy: 2 s, all pictures."),
        ({"seconds": 2, "parameters": {"image_count": 1}}, "This copy: 2 s, 1 picture."),
    ],
)
def test_the_line_says_only_what_is_known(stamp, text):
    assert run_line(stamp) == text
