"""Candidates of a whole split on disk: written, read, imported, dumped, replayed."""
