"""What changes during a training run: the detector, its optimizer, the average of its weights."""

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from postnms.detectors import Detector
from postnms.training.averaging import WeightAverage


@dataclass(frozen=True)
class Trained:
    """The parts of a run that every iteration changes."""

    detector: Detector
    model: nn.Module
    """The detector as accelerate wraps it, for training steps: it shares the gradients of several
    processes."""
    optimizer: Optimizer
    average: WeightAverage | None = None
    """None: the recipe asks for no average of the weights."""

    @property
    def result(self) -> Detector:
        """The detector to evaluate and to keep: the averaged one, if there is an average."""
        return self.detector if self.average is None else self.average.detector

    def update_average(self) -> None:
        """Let the average, if there is one, take in the weights after an iteration."""
        if self.average is not None:
            self.average.update(self.detector)
