"""The command line."""

from postnms.cli.app import main

__all__ = ["main"]
