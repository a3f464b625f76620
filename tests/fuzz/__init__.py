"""Damaged files and invalid calls, and what the library makes of them.

``python -m tests.fuzz --minutes 10 --seed 0`` runs it, see :mod:`tests.fuzz.__main__`.
"""
