"""Compiled twins of the suppressors: NAME.py serves ../NAME.py."""
