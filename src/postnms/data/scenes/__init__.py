"""The built-in data set: crowded scenes."""
