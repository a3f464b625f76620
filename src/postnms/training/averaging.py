"""The moving average of the weights of a detector during training."""

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from postnms.detectors import Detector
from postnms.runs.checkpoints import AVERAGE


class WeightAverage:
    """An exponential moving average of the weights and of the statistics of batch norm.

    After iteration t (counted from 1) the decay is ``min(decay, (1 + t) / (10 + t))``. So the
    random weights of the start are forgotten soon, however short the run is.

    Args:
        detector: the detector, whose present weights the average starts from.
        decay: the largest decay, in (0, 1).
    """

    def __init__(self, detector: Detector, decay: float) -> None:
        self.decay = decay
        self.model = AveragedModel(detector, multi_avg_fn=self._average, use_buffers=True)
        self.model.n_averaged.fill_(1)  # The present weights are the first ones of the average.

    @property
    def detector(self) -> Detector:
        """The detector with the averaged weights."""
        detector = self.model.module
        assert isinstance(detector, Detector)
        return detector

    def update(self, detector: Detector) -> None:
        """Let the average take in the weights of the detector, after an iteration."""
        self.model.update_parameters(detector)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the average by name, for a checkpoint."""
        return {f"{AVERAGE}{name}": value for name, value in self.model.state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from the tensors of a checkpoint."""
        own = {n.removeprefix(AVERAGE): t for n, t in tensors.items() if n.startswith(AVERAGE)}
        self.model.load_state_dict(own)

    @torch.no_grad()
    def _average(
        self,
        averaged: tuple[Tensor, ...] | list[Tensor],
        current: tuple[Tensor, ...] | list[Tensor],
        count: Tensor | int,
    ) -> None:
        """Move the averaged tensors towards the current ones. ``count`` were averaged before."""
        decay = min(self.decay, (1 + int(count)) / (10 + int(count)))
        if averaged[0].is_floating_point():
            get_ema_multi_avg_fn(decay)(averaged, current, count)
            return
        for mine, other in zip(averaged, current, strict=True):  # Counters have no mean.
            mine.copy_(other)
