# What both workflows know of the library: how it is called, and which of its modules make numbers.
import sys
from pathlib import Path

COMMAND = f"'{sys.executable}' -m saliency_sanity"
# The modules that only draw the site, or only say what is run; a change there needs no notebook to
# run again.
NO_NUMBERS = {
    *("book", "pages", "reading", "page_weight", "cli", "__main__"),
    *("batch", "cell", "estimate", "failure", "grid", "summary"),
}
LIBRARY = sorted(str(path) for path in Path("lib/saliency_sanity").glob("**/*.py"))
NUMBERS = [path for path in LIBRARY if Path(path).stem not in NO_NUMBERS]


def own_files(values):
    """Files in this checkout of the methods and networks that parameters name by their module."""
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    named = [text.partition(":")[0] for text in texts if isinstance(text, str) and ":" in text]
    files = [Path(*name.split(".")).with_suffix(".py") for name in named]
    return sorted({str(file) for file in files if file.is_file()})
