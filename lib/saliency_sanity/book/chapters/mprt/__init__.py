"""The chapter on the randomization test as its critics repaired it: sMPRT and eMPRT."""

from saliency_sanity.book.chapters.mprt.page import MprtRevisited

__all__ = ["MprtRevisited"]
