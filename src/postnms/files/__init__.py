"""Files that are whole or not there, and that run no code."""
