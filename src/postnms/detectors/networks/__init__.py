"""Networks that give candidates, one file for each."""
