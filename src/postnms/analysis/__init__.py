"""Analyses of files of candidates: comparisons of suppressors, sweeps, errors and placement."""
