"""A detector over a split, or over a user's images."""
