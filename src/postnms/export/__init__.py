"""Trained detectors as files that other runtimes read."""
