"""Reading the site: each page leads on to the next one, and figures stay readable on a phone."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image

from saliency_sanity.book.runs.yaml_file import read_yaml
from saliency_sanity.book.site.build import read_toc, toc_files

STORY = Path("book/story.yml")
# Inches of a figure that a phone shows at once; book.css gives each 82 pixels there, so that
# letters of seven points are eight pixels high.
PHONE = 4.3


def read_leads(path: Path) -> dict[str, str]:
    """The sentence that leads to each page, by page, from a file such as ``book/story.yml``."""
    return read_yaml(path)


def lead_on(page: str, pages: Sequence[str], leads: Mapping[str, str]) -> str:
    """The end of ``page``, MyST Markdown: a sentence that is a link to the page that follows.

    ``pages`` is the reading order; its last page, and one that is not in it, end in nothing.
    A next page without a sentence is called by its title.
    """
    if page not in pages[:-1]:
        return ""
    following = pages[pages.index(page) + 1]
    source = f"{following}.{'ipynb' if following.startswith('notebooks/') else 'md'}"
    link = Path(os.path.relpath(source, Path(page).parent)).as_posix()
    return f"```{{div}} next-page\n**Next.** [{leads.get(following, '')}]({link})\n```"


def _lead_on(app: Any, page: str, source: list[str]) -> None:
    # The file itself stays as it is: whoever downloads a notebook gets it as it ran.
    root = Path(app.srcdir)
    end = lead_on(page, toc_files(read_toc(root / "_toc.yml")), read_leads(root / STORY))
    if not end:
        return
    if app.env.doc2path(page).endswith(".ipynb"):
        notebook = json.loads(source[0])
        cell = {"cell_type": "markdown", "id": "next-page", "metadata": {}, "source": end}
        notebook["cells"].append(cell)
        source[0] = json.dumps(notebook)
    else:
        source[0] += f"\n\n{end}\n"


def _as_drawn(app: Any, doctree: nodes.document, _page: str) -> None:
    # Sphinx links a picture that has a width to its file. The style sheet takes this one on
    # phones only.
    for picture in doctree.findall(nodes.image):
        file = Path(app.srcdir) / picture["uri"]
        # A figure with a picture for each kind of screen has its own way.
        if "by-width" in picture.parent["classes"] or file.suffix not in (".png", ".jpg", ".jpeg"):
            continue
        with Image.open(file) as drawn:
            inches = drawn.width / drawn.info.get("dpi", (96, 96))[0]
        picture["width"] = f"{inches:.2f}in"
        if inches > PHONE:
            picture["classes"].append("scrolls")


def setup(app: Any) -> dict[str, bool]:
    """Sphinx extension: the last sentence of each page, and the size of its figures."""
    app.connect("source-read", _lead_on)
    app.connect("doctree-resolved", _as_drawn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
