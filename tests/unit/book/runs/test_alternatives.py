"""A figure's alternative text begins with what this copy found, and says then what is seen."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import select_figure_formats
from saliency_sanity.book.runs.alternatives import FINDING, carry_findings, set_alternatives
from saliency_sanity.plots.layout import headline, panel_title, tell


def carried_in(shell, monkeypatch):
    """Call it where ``shell`` is the one that runs; pyplot would ask the same for more."""
    with monkeypatch.context() as patch:
        patch.setattr("IPython.get_ipython", lambda: shell)
        carry_findings()


def labelled(*findings: str):
    figure, _ = plt.subplots()
    for finding in findings:
        tell(figure, [finding])
    return figure


def test_a_figure_carries_its_finding_and_its_picture(monkeypatch):
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    carried_in(shell, monkeypatch)
    # As the inline backend does before it shows the first figure, after a page's first cell.
    select_figure_formats(shell, {"png"})
    data, about = shell.display_formatter.format(labelled("Two respond", "One does not"))
    assert about[FINDING] == "Two respond. One does not."
    assert data["image/png"]
    _, about = shell.display_formatter.format(labelled())
    assert FINDING not in about
    plt.close("all")


def test_outside_a_kernel_nothing_happens(monkeypatch):
    carried_in(None, monkeypatch)


def test_titles_of_figures_and_panels_are_what_is_told():
    figure = plt.figure()
    upper, lower = figure.subfigures(2)
    headline(upper, "MLP: all respond.")
    headline(lower, "CNN: 2 of 3\nrespond\nNone is\nopen")
    panel_title(lower.subplots(), "Rank correlation", "picture-driven: 1 of 3 methods")
    panel_title(upper.subplots(), "A panel that only has a name")
    headline(figure, "")
    assert figure.get_label() == (
        "MLP: all respond. CNN: 2 of 3 respond. None is open. "
        "Rank correlation – picture-driven: 1 of 3 methods."
    )
    plt.close(figure)


def notebook(alt: str | None, *findings: str | None):
    outputs = [
        nbformat.v4.new_output(
            "display_data",
            {"image/png": ""},
            metadata={} if finding is None else {FINDING: finding, "needs_background": "light"},
        )
        for finding in findings
    ]
    cell = nbformat.v4.new_code_cell("show()", outputs=outputs)
    if alt is not None:
        cell.metadata["mystnb"] = {"image": {"alt": alt}}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), cell])


@pytest.mark.parametrize(
    ("alt", "findings", "wanted"),
    [
        ("Dots.", ["Two respond."], "Two respond. Dots."),
        ("Dots.", [None], "Dots."),
        ("Dots.", [], "Dots."),
        ("Dots.", [None, "One.", "Two."], "One. Two. Dots."),
    ],
)
def test_the_finding_comes_first_and_once(alt, findings, wanted):
    copy = notebook(alt, *findings)
    for _ in range(2):
        set_alternatives(copy)
        assert copy.cells[1].metadata["mystnb"]["image"]["alt"] == wanted
    assert all(FINDING not in output.metadata for output in copy.cells[1].outputs)
    nbformat.validate(copy)


def test_a_cell_without_an_alternative_text_gets_none():
    copy = notebook(None, "Two respond.")
    set_alternatives(copy)
    assert "mystnb" not in copy.cells[1].metadata
