"""Figures of maps, rankings, cascades and bars in the book's one style."""

from saliency_sanity._extras import need

need("a figure", "book", "jinja2", "matplotlib", "seaborn")
