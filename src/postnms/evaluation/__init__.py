"""Truth and results in, figures out."""
