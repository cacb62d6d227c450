"""Timings measured side by side. They are printed, never asserted."""
