"""The training loop, from a recipe and its data to a trained detector in a run folder."""

from postnms.training.loop import train as train_splits
from postnms.training.sequences import train

__all__ = ["train", "train_splits"]
