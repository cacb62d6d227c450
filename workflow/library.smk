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
