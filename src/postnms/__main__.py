"""``python -m postnms``."""

from postnms.cli import main

main()
