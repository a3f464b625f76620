"""A run on disk: its folder, its checkpoints, and the detector in it."""
