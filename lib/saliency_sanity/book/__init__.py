"""The book: notebooks run and checked, grids of runs, chapters, scoreboard, site, command line."""

from saliency_sanity._extras import need

need("the book", "book", "nbformat", "papermill", "pydantic", "yaml")
