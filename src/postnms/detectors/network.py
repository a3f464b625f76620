"""What a detector must provide to get the stage: :class:`Network`.

``docs/your_detector.md`` walks through an example.

B: images of the batch, K: classes, n: candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from postnms.detectors.image_batch import ImageBatch
from postnms.distributed.collectives import CountedLoss
from postnms.structures import Candidates, Level, Targets

Origin = Literal["proposals", "sampled"]


@dataclass(frozen=True)
class Selection:
    """Which candidates a network is asked for."""

    origin: Origin = "proposals"
    """Where candidates come from when there are targets.

    ``proposals``: the proposals (or anchors) of this step without injected ground truth, scored in
    evaluation mode. ``sampled``: the sample of proposals that the detector's own losses are
    computed on, also without injected ground truth. A detector without proposals refuses these.
    """
    most: int | None = None
    """Largest number of candidates for each image, chosen by score. None: only the detector's own
    limits hold."""
    score_threshold: float | None = None
    """Candidates score more than this. None: the detector's own threshold in evaluation mode."""
    losses_only: bool = False
    """Only the losses are of interest. The candidates may be empty, which saves the time to score
    them."""
    features: bool = False
    """The candidates get the extra column ``box_features`` (n, width): what the last hidden layer
    of the box head gives for the proposal that a candidate comes from. A detector without box heads
    refuses."""

    def threshold(self, own: float) -> float:
        """Return what candidates must score more than; ``own`` is the detector's own threshold."""
        return own if self.score_threshold is None else self.score_threshold


class Network(Protocol):
    """A detector up to its candidates: a ``torch.nn.Module`` with these members."""

    @property
    def levels(self) -> Mapping[str, Level]:
        """Feature maps that the stage pools from, by name, each twice as coarse as the last."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes, without a background class."""
        ...

    @property
    def nms_threshold(self) -> float:
        """NMS suppresses boxes that overlap a key with an IoU over this."""
        ...

    @property
    def max_detections(self) -> int:
        """Largest number of detections for each image."""
        ...

    def prepare(self, images: Sequence[Tensor]) -> ImageBatch:
        """Make the input of the network from images (3, h, w), uint8 or float in [0, 1]."""
        ...

    def features(self, images: ImageBatch) -> dict[str, Tensor]:
        """Return feature maps (B, C, H, W) by name, among them those of ``levels``."""
        ...

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, Mapping[str, Tensor | CountedLoss]]:
        """Return the candidates, and with ``targets`` the losses of training.

        Boxes are in pixels of the network's input. Candidates are detached. Losses are scalars by
        name. Each is the mean over the batch of all processes (:func:`postnms.divisor`). The
        networks of this library leave it to the detector to divide them, all at once.
        """
        ...
