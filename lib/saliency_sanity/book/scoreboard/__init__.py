"""All verdicts in one table: its columns, rows, page and picture."""
