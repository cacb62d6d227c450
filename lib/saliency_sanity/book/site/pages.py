"""Pages that are written from the code, and the Sphinx extension that goes with them."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import saliency_sanity
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


def api_page() -> str:
    """Write the API reference, MyST Markdown: every public module from its docstrings."""
    parts = [
        "# API reference",
        "Every public name of the library, from its docstrings. Shapes are written "
        "`[N, C, H, W]`: images, channels, height, width.",
    ]
    for package, modules in modules_by_package().items():
        about = inspect.getdoc(importlib.import_module(package))
        parts.append(f"## {package.removeprefix('saliency_sanity.')}\n\n{about}")
        for name in modules:
            if not inspect.getdoc(importlib.import_module(name)):
                raise ValueError(f"module {name} has no docstring")
            title = name.rpartition(".")[2]
            parts.append(
                f"### {title}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```"
            )
    return "\n\n".join(parts)


def write_pages(folder: Path) -> list[Path]:
    """Write every generated page into ``folder`` and return their paths."""
    from saliency_sanity.attribution.catalogue import CATALOGUE
    from saliency_sanity.peers.differences import differences
    from saliency_sanity.similarity.metrics import METRICS

    pages = {
        "methods.md": methods_page(CATALOGUE),
        "metrics.md": metrics_page(METRICS),
        "differences.md": differences_page(differences()),
        "api.md": api_page(),
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


def _to_the_source(
    app: Any, page: str, _template: str, context: dict[str, Any], doctree: Any
) -> None:
    # The theme derives the addresses on Colab, Binder and the source's host from the page's name.
    # A case's page is no file there: its notebook is.
    copy = Path(app.srcdir) / f"{page}.ipynb"
    if doctree is None or not copy.is_file():
        return
    stamp = json.loads(copy.read_text(encoding="utf8"))["metadata"].get(METADATA_KEY, {})
    if not stamp.get("case"):
        return
    source = str(Path(page).with_name(stamp["notebook"]).as_posix())

    def lead(button: dict[str, Any]) -> None:
        # What lies on the site itself, the executed copy for one, has a relative address.
        if button.get("url", "").startswith("http"):
            button["url"] = button["url"].replace(f"{page}.ipynb", source)
        for inner in button.get("buttons", []):
            lead(inner)

    for button in context["header_buttons"]:
        lead(button)


def setup(app: Any) -> dict[str, bool]:
    """Sphinx extension: citations in docstrings, cases' links, no scripts without use."""
    app.connect("autodoc-process-docstring", _cite_docstring)
    app.connect("html-page-context", _without_thebe, priority=900)
    app.connect("html-page-context", _to_the_source, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
