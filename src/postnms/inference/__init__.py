"""Inference with a detector, on a split of a data set or on a user's images."""
