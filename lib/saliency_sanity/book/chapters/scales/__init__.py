"""The chapter on scales and noise: what randomization cannot rank."""

from saliency_sanity.book.chapters.scales.page import Scales

__all__ = ["Scales"]
