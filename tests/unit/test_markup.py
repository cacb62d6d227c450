"""Templates: what they show is escaped, and what nobody gave them is an error."""

import pytest
from jinja2 import Environment, TemplateNotFound, UndefinedError
from made.places import ROOT
from saliency_sanity._markup import by_words, render

LIBRARY = ROOT / "lib/saliency_sanity"
TEMPLATES = sorted(str(path.relative_to(LIBRARY)) for path in LIBRARY.rglob("*.j2"))


def test_values_are_escaped():
    said = render("book/runs/provenance.html.j2", rows=[("<b>", "a & \"b\" 'c'")])
    assert '<tr><th scope="row">&lt;b&gt;</th><td>a &amp; &#34;b&#34; &#39;c&#39;</td></tr>' in said


def test_what_is_missing_is_an_error():
    with pytest.raises(UndefinedError, match="rows"):
        render("book/runs/provenance.html.j2")
    with pytest.raises(TemplateNotFound, match="nowhere"):
        render("book/nowhere.html.j2")


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_template_takes_a_value_as_it_is(template):
    text = (LIBRARY / template).read_text(encoding="utf-8")
    Environment().parse(text)
    assert "| safe" not in text
    assert "autoescape" not in text


def test_lines_of_names_end_where_words_do():
    whole = '<span style="white-space: nowrap">{}</span>'.format
    environment = Environment(autoescape=True)
    environment.filters["by_words"] = by_words
    shown = environment.from_string("{{ name | by_words }}").render
    assert shown(name="Competitive LRP-ε") == f"Competitive {whole('LRP-ε')}"
    assert shown(name="Grad-CAM & more") == f"{whole('Grad-CAM')} &amp; more"
    assert shown(name="Guided backpropagation") == "Guided back<wbr>propagation"
    assert shown(name="softmax_linear") == "softmax_<wbr>linear"
    for broken in ("Integrated gradients", "RectGrad without ⊙ input", "efficientnet-lite-zero"):
        assert shown(name=broken) == broken
