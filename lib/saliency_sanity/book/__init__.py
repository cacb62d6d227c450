"""The book: notebooks run and checked, grids of runs, chapters, scoreboard, site, command line."""

from saliency_sanity._extras import need

need(
    "the book",
    "book",
    *("bs4", "filelock", "jinja2", "nbformat", "papermill", "pydantic", "yaml"),
)
