"""Reading and writing files: written completely or not at all, and read without running code."""
