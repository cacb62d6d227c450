"""The chapter on rank one: relevance that forgets where it came from."""

from saliency_sanity.book.chapters.rank_one.page import RankOne

__all__ = ["RankOne"]
