"""Figures of maps, rankings, cascades and bars in the book's one style."""
