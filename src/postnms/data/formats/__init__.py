"""One file for each annotation format."""
