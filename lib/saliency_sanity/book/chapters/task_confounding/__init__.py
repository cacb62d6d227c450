"""The chapter on tasks: what a map can tell of a network where the picture leaves a choice."""

from saliency_sanity.book.chapters.task_confounding.page import TaskConfounding

__all__ = ["TaskConfounding"]
