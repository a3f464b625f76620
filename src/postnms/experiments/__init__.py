"""Experiments: files that name runs and comparisons, which become records and one page."""
