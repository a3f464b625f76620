"""Kills of training and prediction at random moments: ``python -m tests.kills --kills 100``."""
