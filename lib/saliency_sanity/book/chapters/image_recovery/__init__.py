"""The chapter on maps that show the picture, whatever the network."""

from saliency_sanity.book.chapters.image_recovery.page import ImageRecovery

__all__ = ["ImageRecovery"]
