"""The training loop, from a recipe and its data to a trained detector in a run folder."""

from postnms.training.loop import train_splits
from postnms.training.sequences import train
from postnms.training.stopping import TrainingStopped

__all__ = ["TrainingStopped", "train", "train_splits"]
