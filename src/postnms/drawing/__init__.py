"""Pixels and colours."""
