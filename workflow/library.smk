# What both workflows know of the library: how it is called, and which of its files there are. What
# a notebook depends on follows from its imports.
import sys

from saliency_sanity.book.runs.dependencies import LIBRARY, module_files, notebook_files, own_files

COMMAND = f"'{sys.executable}' -m saliency_sanity"
