# What both workflows know of the library: how it is called, and which of its modules make numbers.
import sys
from pathlib import Path

COMMAND = f"'{sys.executable}' -m saliency_sanity"
PACKAGE = Path("lib/saliency_sanity")
# What only draws the site, or only says what is run; a change there needs no notebook to run again.
NO_NUMBERS = ("book/grid", "book/site", "book/cli.py", "__main__.py")
# What makes a trained network what it is.
MAKES_NETWORKS = ("_random.py", "subjects/training", "subjects/datasets.py", "subjects/small_networks.py")


def within(path, places):
    """Whether a file of the library is one of these, or lies in one of these packages."""
    return any(path.relative_to(PACKAGE).is_relative_to(place) for place in places)


FILES_OF_LIBRARY = sorted([*PACKAGE.glob("**/*.py"), *PACKAGE.glob("**/*.toml")])
LIBRARY = [str(path) for path in FILES_OF_LIBRARY]
NUMBERS = [str(path) for path in FILES_OF_LIBRARY if not within(path, NO_NUMBERS)]
TRAINING = [str(path) for path in FILES_OF_LIBRARY if within(path, MAKES_NETWORKS)]


def own_files(values):
    """Files in this checkout of the methods and networks that parameters name by their module."""
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    named = [text.partition(":")[0] for text in texts if isinstance(text, str) and ":" in text]
    files = [Path(*name.split(".")).with_suffix(".py") for name in named]
    return sorted({str(file) for file in files if file.is_file()})
