"""The picture of the packages, drawn from the rule of dependency that the linter holds them to.

A page has it by the directive ``package-map``, whose content is the caption.
"""

import importlib
import inspect
import tomllib
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives

from saliency_sanity._files import checkout
from saliency_sanity._markup import render

PACKAGE = "saliency_sanity"
# Units of the picture are pixels of a desk's page; a phone scrolls sideways instead of shrinking.
WIDTH, LEAST_WIDTH = 720, 600
NAME, TEXT = 16, 13  # heights of letters
_LETTER = 0.53 * TEXT  # a mean width
_GAP, _PAD, _LINE = 10, 9, 17


def layers(container: str, settings: Path | None = None) -> list[list[str]]:
    """Names in each layer of a package, the top one first, as ``pyproject.toml`` has them.

    What stands in one layer knows nothing of its neighbours. Raises ValueError where no contract
    is about the package.
    """
    path = settings or _settings()
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    for contract in content["tool"]["importlinter"]["contracts"]:
        if contract.get("containers") == [container]:
            return [layer.replace(":", "|").split(" | ") for layer in contract["layers"]]
    raise ValueError(f"no contract in {path.name} says which layers {container} has")


def _settings() -> Path:
    """The checkout's: that of this file, or of the current folder for an installed library."""
    mine = Path(__file__).parents[4] / "pyproject.toml"
    return mine if mine.is_file() else checkout() / "pyproject.toml"


def picture(rows: Sequence[Sequence[str]], inner: Sequence[Sequence[str]], words: str) -> str:
    """Boxes in rows as SVG in the page's own colours, ``inner`` ones in that of the first row.

    Those of the core, which need no extra, are tinted. ``words`` stand for the picture where it
    cannot be seen.
    """
    boxes, nested, y = [], None, 1.0
    for row in rows:
        plain = [name for name in row if not name.startswith("_")]
        width = (WIDTH - 2 - _GAP * (len(plain or row[:1]) - 1)) / len(plain or row[:1])
        found = [(name, _about(name, width)) for name in plain] or [_foundation(row, width)]
        below = _nested(inner, width) if row is rows[0] else None
        most = max(len(lines) for _, lines in found)
        height = 2 * _PAD + (NAME + 4 if plain else 0) + _LINE * most
        height += below["height"] if below else 0
        for number, (name, lines) in enumerate(found):
            x = 1 + number * (width + _GAP)
            boxes.append(_box(x, y, width, height, name, lines))
        if below:
            nested = below | {"y": y + height - below["height"]}
        y += height + _GAP
    return render(
        "book/site/package_map.html.j2",
        **{"width": WIDTH, "height": y, "words": words, "least": LEAST_WIDTH},
        **{"boxes": boxes, "nested": nested},
    )


def _about(name: str, width: float) -> list[str]:
    about = inspect.getdoc(importlib.import_module(f"{PACKAGE}.{name}")) or ""
    return wrap(about.partition("\n")[0].rstrip("."), int((width - 2 * _PAD) / _LETTER))


def _extra(name: str) -> bool:
    """Whether a package says that it needs more than the core brings."""
    module = importlib.import_module(f"{PACKAGE}.{name}" if name else f"{PACKAGE}._errors")
    return hasattr(module, "need")


def _foundation(names: Sequence[str], width: float) -> tuple[str, list[str]]:
    """What all others stand on: modules, not packages, and too small for a box each."""
    return "", wrap(" · ".join(names), int((width - 2 * _PAD) / _LETTER))


def _box(
    x: float, y: float, width: float, height: float, name: str, lines: list[str]
) -> dict[str, Any]:
    top = y + _PAD + NAME
    first = top + 2 if name else y + _PAD
    texts = [(first + _LINE * (number + 1) - 3, line) for number, line in enumerate(lines)]
    place = {"x": x, "y": y, "width": width, "height": height, "left": x + _PAD}
    return place | {"core": not _extra(name), "name": name, "top": top - 2, "lines": texts}


def _nested(inner: Sequence[Sequence[str]], width: float) -> dict[str, Any]:
    """The parts of the book from left to right, each knowing of those before it."""
    columns = list(reversed(inner))
    arrow, height = 22, 28.0
    room = (width - 2 * _PAD - arrow * (len(columns) - 1)) / len(columns)
    most = max(map(len, columns))
    boxes, arrows = [], []
    for number, column in enumerate(columns):
        x = _PAD + number * (room + arrow)
        start = (most - len(column)) * (height + 4) / 2
        for place, name in enumerate(column):
            y = start + place * (height + 4)
            box = {"x": x, "y": y, "middle": x + room / 2, "line": y + 19, "name": name}
            boxes.append(box | {"width": room, "height": height})
        if number:
            arrows.append((x - arrow / 2, most * (height + 4) / 2 + 2))
    return {"boxes": boxes, "arrows": arrows, "height": most * (height + 4) + _PAD}


class PackageMap(Directive):
    """The picture as a figure, with the directive's content as its caption."""

    has_content = True
    option_spec: ClassVar = {"alt": directives.unchanged_required, "name": directives.unchanged}

    def run(self) -> list[nodes.Node]:  # noqa: D102
        book = f"{PACKAGE}.book"
        drawn = picture(layers(PACKAGE), layers(book), self.options["alt"])
        figure = nodes.figure("", nodes.raw("", drawn, format="html"))
        caption = nodes.caption()
        self.state.nested_parse(self.content, self.content_offset, caption)
        # A caption holds words, not paragraphs.
        caption.children = [child for block in caption.children for child in block.children]
        figure += caption
        self.add_name(figure)
        return [figure]


def setup(app: Any) -> dict[str, bool]:
    """Sphinx extension: the directive."""
    app.add_directive("package-map", PackageMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
