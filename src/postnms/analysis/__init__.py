"""Questions put to files of candidates."""
