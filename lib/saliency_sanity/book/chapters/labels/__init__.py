"""The chapter on permuted labels; its table of verdicts is that of other chapters too."""

from saliency_sanity.book.chapters.labels.table import agreement_table, undecided

__all__ = ["agreement_table", "undecided"]
