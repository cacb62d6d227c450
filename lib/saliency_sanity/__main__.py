"""``python -m saliency_sanity``."""

import sys

from saliency_sanity.book.cli import main

if __name__ == "__main__":
    sys.exit(main())
