"""What a detector must give to get the stage: :class:`Network`. ``docs/your_detector.md`` walks through one.

B: images, C: outputs of a classifier, K: classes, n: candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from postnms.detectors.image_batch import ImageBatch
from postnms.structures import Candidates, Level, Targets

Origin = Literal["proposals", "sampled", "none"]


@dataclass(frozen=True)
class Selection:
    """Which candidates are asked for."""

    origin: Origin = "proposals"
    """With targets: the step's own ``proposals`` (or anchors) without injected ground truth, scored as at test time;
    the proposals ``sampled`` for the detector's own losses, which a detector without proposals refuses; or ``none``,
    where only the losses are of interest."""
    most: int | None = None
    """At most so many an image, by score; None: no limit beyond the detector's own."""
    score_threshold: float | None = None
    """Candidates score more than this; None: the detector's own threshold at test time."""

    def threshold(self, own: float) -> float:
        """What candidates must score more than; ``own``: the detector's own threshold."""
        return own if self.score_threshold is None else self.score_threshold


class Network(Protocol):
    """A detector up to its candidates: a ``torch.nn.Module`` with these members."""

    @property
    def levels(self) -> Mapping[str, Level]:
        """The feature maps that the stage pools from, by name, each twice as coarse as the one before."""
        ...

    @property
    def num_classes(self) -> int:
        """Classes, a background not counted."""
        ...

    @property
    def nms_threshold(self) -> float:
        """IoU over which NMS suppresses."""
        ...

    @property
    def max_detections(self) -> int:
        """Most detections of an image."""
        ...

    def prepare(self, images: Sequence[Tensor]) -> ImageBatch:
        """Images as given (3, h, w), uint8 or float in [0, 1] -> the network's input."""
        ...

    def features(self, images: ImageBatch) -> dict[str, Tensor]:
        """Feature maps (B, C, H, W) by name, those of ``levels`` among them."""
        ...

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, dict[str, Tensor]]:
        """Candidates in pixels of the input, and with ``targets`` the losses of training: scalars by name.

        Candidates are constants; the losses are means over the batch of all processes
        (``postnms.distributed.collectives``).
        """
        ...
