"""The chapter on competition for pixels."""

from saliency_sanity.book.chapters.competition.page import Competition

__all__ = ["Competition"]
