"""The command line: one file for each verb. ``postnms --help`` lists them."""

from postnms.cli.app import main

__all__ = ["main"]
