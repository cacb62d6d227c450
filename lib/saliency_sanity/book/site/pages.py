"""Pages that are written from the code, and the Sphinx extension that goes with them."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bs4 import BeautifulSoup
from docutils import nodes

import saliency_sanity
from saliency_sanity.book.runs.launch import FOLDER
from saliency_sanity.book.runs.stamp import METADATA_KEY

if TYPE_CHECKING:
    from saliency_sanity.attribution.catalogue import Card
    from saliency_sanity.peers.differences import Difference
    from saliency_sanity.similarity.metrics import MetricCard


# What randomizing the weights must do to each control, by construction.
KNOWN = {
    "sobel": "Never looks at the weights, so randomizing them changes nothing: kappa is 1 with "
    "every metric. "
    "*Picture-driven.* A method that behaves like this one says nothing about the model.",
    "canny": "As Sobel: the weights are not looked at, and kappa under randomization is 1. "
    "*Picture-driven.*",
    "input": "The picture itself, whatever the weights are: kappa under randomization is 1. "
    "*Picture-driven.*",
    "noise": "Other weights give other noise, and every picture gets the same: similarity is at "
    "chance, kappa is 0. *Responds* – although it has never seen the picture – or, where another "
    "training of the network is its ceiling, one *cannot tell*. Passing is necessary, not "
    "sufficient.",
    "input_x_noise": "Signs are those of the noise, sizes those of the picture: signed metrics "
    "find chance and say *responds*, or with another training that one *cannot tell*, absolute "
    "ranks find the picture and say *picture-driven*. "
    "A method that multiplies by the input has to be read beside this row.",
}

NEEDS = {
    "baseline": "a baseline colour (*baseline*)",
    "layer": "a layer of feature maps, or of tokens (*layer*)",
    "relu": "a network with rectifiers (*ReLU*)",
    "attention": "a class token that attends to patches (*attention*)",
}


def _label(name: str) -> str:
    return "method-" + name.replace("_", "-")


def _yes(value: bool) -> str:
    return "yes" if value else "–"


def _cited(sources: Iterable[str]) -> str:
    keys = ",".join(sources)
    return f"{{cite:p}}`{keys}`" if keys else ""


def _matrix(cards: Mapping[str, "Card"]) -> str:
    rows = [
        "| method | baseline | layer | ReLU | attention | passes an image | signed |",
        "| :-- | :-: | :-: | :-: | :-: | --: | :-: |",
    ]
    for name, card in cards.items():
        needs = " | ".join(_yes(need in card.needs) for need in NEEDS)
        passes = f"{card.passes}{' × K' * card.every_label}{' + C' * card.every_channel}"
        rows.append(
            f"| [{card.title}](#{_label(name)}) | {needs} | {passes} | {_yes(card.signed)} |"
        )
    return "\n".join(rows)


def _section(name: str, card: "Card") -> str:
    parts = [
        f"({_label(name)})=\n### {card.title}",
        f"{card.summary} {_cited(card.sources)}".strip(),
        f"$$\n{card.formula}\n$$",
    ]
    if card.kind == "control":
        parts.append(f"**Known verdict.** {KNOWN.get(name, 'Not known by construction.')}")
    lines = [f"Name\n: `{name}`", f"Composition\n: `{card.build()!r}`"]
    if card.needs:
        lines.append(f"Needs\n: {'; '.join(NEEDS[need] for need in card.needs)}")
    if card.defaults:
        stated = "\n".join(f"  - `{key}`: {value}" for key, value in card.defaults.items())
        lines.append(f"Defaults\n: {stated.lstrip()}")
    return "\n\n".join([*parts, "\n\n".join(lines)])


def methods_page(catalogue: Mapping[str, "Card"]) -> str:
    """Write the methods page, MyST Markdown, from the catalogue's cards.

    Every entry gets its formula, summary, sources, defaults and composition, and a line in the
    comparison table.
    """
    kinds = {
        kind: {name: card for name, card in catalogue.items() if card.kind == kind}
        for kind in ("method", "control")
    }
    return "\n\n".join(
        [
            "# Methods",
            "Almost every attribution method of this literature is a few small parts put "
            "together, and the disputes are about single parts. So the library writes each method "
            "as a composition, and the composition is printed with every result. This page is "
            "generated from the catalogue that the code itself uses.",
            "In the formulae $x$ is the input in the network's own scaling, $S_c(x)$ the logit of "
            "the explained class $c$, and $E(x)$ the map.",
            "```{table} What each method needs and gives. *Passes* counts how often one image goes "
            "through the network at default settings, and back where the method takes gradients; K "
            "stands for the number of classes, C for that of the layer's channels; *signed* maps "
            "tell evidence for a class from evidence against it.\n"
            f":name: methods-matrix\n:align: left\n\n{_matrix(catalogue)}\n```",
            "## Attribution methods",
            *(_section(*item) for item in kinds["method"].items()),
            "(known-controls)=\n## Controls",
            "Methods whose verdict is known before anything is computed. Every ranking of the "
            "book carries them: a table in which a control comes out wrong is wrong.",
            *(_section(*item) for item in kinds["control"].items()),
            "## Your own\n\nAny callable `attribution(model, x, target)` that returns a map is a "
            "method. Name it `package.module:function` wherever a method is asked for; see "
            "[](run.md).",
        ]
    )


def metrics_page(metrics: Mapping[str, "MetricCard"]) -> str:
    """Write the metrics page, MyST Markdown: formula, sources and every preset's settings."""
    parts = [
        "# Metrics",
        "Four numbers for how alike two maps are. For each of them the text of the paper and the "
        "code published with it differ, so there are two presets, `reference-code` and `paper`, "
        "and every result names its own. None of the four can be read alone: "
        "[](../notebooks/00_metrics.ipynb) shows what each says of maps that have nothing to do "
        "with each other. This page is generated from the registry that the code itself uses.",
        "Maps with a value that is not finite, and maps that are constant, have no similarity: "
        "the result is NaN and is counted.",
    ]
    for name, card in metrics.items():
        presets = card.settings()
        rows = [f"| | {' | '.join(f'`{preset}`' for preset in presets)} |"]
        rows.append("| :-- |" + " :-- |" * len(presets))
        for step in next(iter(presets.values())):
            cells = " | ".join(settings[step] for settings in presets.values())
            rows.append(f"| {step} | {cells} |")
        parts += [
            f"(metric-{name.replace('_', '-')})=\n## {card.title}",
            f"{card.summary} {_cited(card.sources)}".strip(),
            f"$$\n{card.formula}\n$$",
            f"Name\n: `{name}`\n\nSigns\n: {'count' if card.signed else 'do not count'}",
            "\n".join(rows),
        ]
    return "\n\n".join(parts)


def differences_page(lines: Iterable["Difference"]) -> str:
    """Write the page on what other libraries do otherwise, MyST Markdown, a section a library."""
    lines = list(lines)
    parts = [
        "# What other libraries do differently",
        "Other libraries are how most maps are made, and they are good ones. Here is where a map "
        "is not the one that its method's name suggests, as seen by running each library by "
        "itself, with what that does to a verdict. Another version may do otherwise: each line has "
        "a test of its own, outside of this project's, which `make differences` runs with what is "
        "installed. What is known of a map on your network is said by "
        "`saliency_sanity.peers.notes`. How far whole maps lie from each other, and what that does "
        "to their verdicts, is on [](../notebooks/08_every_method-board.ipynb).",
        "This library differs from the papers' code in places, too: [](methods.md) and "
        "[](metrics.md) say where.",
    ]
    for library in dict.fromkeys(line.library for line in lines):
        own = [line for line in lines if line.library == library]
        parts.append(f"## {library} {', '.join(dict.fromkeys(line.version for line in own))}")
        parts += [
            f"**One would think:** {line.thought} **What happens:** {line.does} "
            f"**What it does to a verdict:** {line.verdict}"
            for line in own
        ]
    return "\n\n".join(parts)


def modules_by_package() -> dict[str, list[str]]:
    """The library's modules by package, which is named as ``saliency_sanity.attribution``.

    Those at the top, whose names begin with an underscore, are among them: errors and what all
    others stand on have no other home.
    """
    found: dict[str, list[str]] = {}
    for module in pkgutil.walk_packages(saliency_sanity.__path__, "saliency_sanity."):
        if not module.ispkg and not module.name.endswith("__main__"):
            found.setdefault(module.name.rpartition(".")[0], []).append(module.name)
    return found


def _api_name(package: str) -> str:
    """Name of a package's page, as ``api-book-chapters``; that of the top is ``api-top``."""
    return "-".join(["api", *(package.split(".")[1:] or ["top"])])


def _api_packages() -> dict[str, list[str]]:
    """Packages by that whose page they are on: their own, or below the book its part's."""
    pages: dict[str, list[str]] = {}
    # Sorted, so that a package comes before what is in it.
    for package in sorted(modules_by_package()):
        head, *inner = package.split(".")
        depth = 2 if inner[:1] == ["book"] else 1
        pages.setdefault(".".join([head, *inner[:depth]]), []).append(package)
    return pages


def _about(name: str) -> str:
    about = inspect.getdoc(importlib.import_module(name))
    if not about:
        raise ValueError(f"{name} has no docstring")
    return about


def _api_part(package: str, inner: Iterable[str]) -> str:
    modules = modules_by_package()
    parts = [f"# {package}\n\n{_about(package)}"]
    for below in inner:
        if below != package:
            parts.append(f"## {below.removeprefix(f'{package}.')}\n\n{_about(below)}")
        level = "##" if below == package else "###"
        for name in modules[below]:
            _about(name)
            title = name.rpartition(".")[2]
            parts.append(
                f"{level} {title}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```"
            )
    return "\n\n".join(parts)


def api_pages() -> dict[str, str]:
    """Write the API reference, MyST Markdown, by the pages' names without an ending.

    ``api`` leads to a page for each package, and for each part of the book; these have every public
    module from its docstrings. Raises ValueError for a package or module without one.
    """
    packages = _api_packages()
    lines = [
        f"* [`{package}`]({_api_name(package)}.md): {_about(package).partition(chr(10))[0]}"
        for package in packages
    ]
    about = (
        "Every public name of the library, from its docstrings, a page a package. Shapes are "
        "written `[N, C, H, W]`: images, channels, height, width."
    )
    pages = {"api": "\n\n".join(["# API reference", about, "\n".join(lines)])}
    return pages | {_api_name(name): _api_part(name, inner) for name, inner in packages.items()}


def write_pages(folder: Path) -> list[Path]:
    """Write every generated page into ``folder`` and return their paths."""
    from saliency_sanity.attribution.catalogue import CATALOGUE
    from saliency_sanity.peers.differences import differences
    from saliency_sanity.similarity.metrics import METRICS

    pages = {
        "methods.md": methods_page(CATALOGUE),
        "metrics.md": metrics_page(METRICS),
        "differences.md": differences_page(differences()),
        **{f"{name}.md": text for name, text in api_pages().items()},
    }
    for name, text in pages.items():
        (folder / name).write_text(text + "\n", encoding="utf8")
    return [folder / name for name in pages]


def bibliography_keys(bibtex: str) -> set[str]:
    """Give the keys of the entries in a BibTeX file's text."""
    return set(re.findall(r"^@\w+\{\s*([^,\s]+)\s*,", bibtex, flags=re.MULTILINE))


def cite(lines: list[str], keys: set[str]) -> None:
    """Turn ``[key]``, ``(key)`` and ``key`` into citations in docstring ``lines``, in place."""
    known = "|".join(re.escape(key) for key in sorted(keys, key=len, reverse=True))
    if not known:
        return
    found = re.compile(rf"(?<![\w`:-])(?:\[({known})\]|\(({known})\)|({known}))(?![\w`-])")

    def citation(match: re.Match) -> str:
        textual, parenthetical, bare = match.groups()
        return f":cite:p:`{parenthetical}`" if parenthetical else f":cite:t:`{textual or bare}`"

    lines[:] = [found.sub(citation, line) for line in lines]


def _cite_docstring(
    app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    files = [Path(app.srcdir) / name for name in app.config.bibtex_bibfiles]
    cite(lines, {key for file in files for key in bibliography_keys(file.read_text("utf8"))})


def _without_thebe(
    _app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any
) -> None:
    # Jupyter Book puts Thebe's set-up on every page, twice, although the book does not use it.
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in f"{script} {getattr(script, 'attributes', {}).get('body', '')}".lower()
    ]


def _to_launch(app: Any, page: str, _template: str, context: dict[str, Any], doctree: Any) -> None:
    # The theme derives the addresses on Colab and Binder from the page's name. A case's page is no
    # file there: its notebook to launch is.
    copy = Path(app.srcdir) / f"{page}.ipynb"
    if doctree is None or not copy.is_file():
        return
    stamp = json.loads(copy.read_text(encoding="utf8"))["metadata"].get(METADATA_KEY, {})
    if not stamp.get("case"):
        return
    source = f"{FOLDER}/{Path(page).name}.ipynb"

    def lead(button: dict[str, Any]) -> None:
        # What lies on the site itself, the executed copy for one, has a relative address.
        if button.get("url", "").startswith("http"):
            button["url"] = button["url"].replace(f"{page}.ipynb", source)
        for inner in button.get("buttons", []):
            lead(inner)

    for button in context["header_buttons"]:
        lead(button)


# What search engines and messengers show of a text.
_LONGEST = 200
# Of a page's head: what a link to it looks like elsewhere. The picture is 1200 x 630.
CARD = "_static/card.png"


def description(doctree: nodes.document) -> str:
    """The first sentences of a page in plain text, at most 200 characters; empty without any.

    A first paragraph that is longer ends with the last whole sentence, or else word, in it.
    """
    for paragraph in doctree.findall(nodes.paragraph):
        if not isinstance(paragraph.parent, nodes.section):
            continue
        text = " ".join(paragraph.astext().split())
        if len(text) <= _LONGEST:
            return text
        whole = [found.end() for found in re.finditer(r"[.?!](?= )", text[: _LONGEST + 1])]
        # A first sentence such as "The claim." says nothing by itself.
        if whole and whole[-1] > _LONGEST // 4:
            return text[: whole[-1]]
        return text[: _LONGEST - 1].rpartition(" ")[0] + "…"
    return ""


def link_tags(title: str, about: str, card: str, site: str) -> str:
    """Tags of a page's head that say how a link to it looks: title, description, picture."""
    said = {"og:type": "website", "og:site_name": site, "og:title": title, "og:image": card}
    said |= {"og:description": about} if about else {}
    tags = [f'<meta name="description" content="{escape(about)}" />'] if about else []
    tags += [f'<meta property="{key}" content="{escape(text)}" />' for key, text in said.items()]
    tags.append('<meta name="twitter:card" content="summary_large_image" />')
    return "\n".join(tags)


def _as_a_link(app: Any, page: str, _template: str, context: dict[str, Any], doctree: Any) -> None:
    if doctree is None:
        return
    # Without an address of the site the picture's is relative, as all others of the site are.
    base = app.config.html_baseurl
    card = f"{base.rstrip('/')}/{CARD}" if base else context["pathto"](CARD, resource=True)
    title = app.env.titles[page].astext()
    tags = link_tags(title, description(doctree), card, app.config.html_title or app.config.project)
    context["metatags"] = f"{context.get('metatags') or ''}\n{tags}"


def _name_folds(contents: BeautifulSoup) -> None:
    """Say what each fold in a list of pages opens, in place; the theme gives it an arrow alone."""
    for summary in contents.select("li > details > summary"):
        link = summary.find_parent("li").find("a")
        if link and not summary.get_text(strip=True):
            summary["aria-label"] = f"Pages below {link.get_text(strip=True)}"


def _with_named_folds(
    _app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any
) -> None:
    # Of the theme of the book; what other themes list has no folds.
    listed = context.get("generate_toctree_html")
    if listed is None:
        return

    def named(*arguments: Any, **options: Any) -> BeautifulSoup:
        contents = listed(*arguments, **options)
        _name_folds(contents)
        return contents

    context["generate_toctree_html"] = named


def _with_listed_works(
    _app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any
) -> None:
    # Docutils gives entries of a list of works a role that is withdrawn; of a list, they are items.
    if context.get("body"):
        context["body"] = context["body"].replace(' role="doc-biblioentry"', ' role="listitem"')


def setup(app: Any) -> dict[str, bool]:
    """Sphinx extension: citations, cases' links, previews, named folds, no idle scripts."""
    app.connect("autodoc-process-docstring", _cite_docstring)
    app.connect("html-page-context", _without_thebe, priority=900)
    app.connect("html-page-context", _to_launch, priority=900)
    app.connect("html-page-context", _as_a_link, priority=900)
    app.connect("html-page-context", _with_named_folds, priority=900)
    app.connect("html-page-context", _with_listed_works, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
