"""The pipeline of a detector with its post-NMS stage: images -> features -> candidates -> clusters -> both results.

B: images of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from postnms.clustering import cluster
from postnms.detectors.faster_rcnn import FasterRCNN
from postnms.detectors.images import ImageBatch, prepare_images, to_given, to_network
from postnms.stage import PostNMSStage
from postnms.structures import Detections, Targets
from postnms.suppression.greedy import keep_keys, nms_again


@dataclass(frozen=True)
class Output:
    """What one forward pass gives."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    """Scalars that sum to the total loss; empty without targets."""
    rows: dict[str, Detections] = field(default_factory=dict)
    """Results by name, in pixels of the images as given: ``nms``, and with a stage ``post_nms`` (and
    ``post_nms_second_nms`` if the stage has a second NMS)."""


class Detector(nn.Module):
    """A network that gives candidates, plain NMS, and the stage (None: the bare detector)."""

    def __init__(self, network: FasterRCNN, stage: PostNMSStage | None = None) -> None:
        super().__init__()
        self.network = network
        self.stage = stage

    def forward(
        self, images: Sequence[Tensor], targets: Targets | None = None, *, detect: bool | None = None
    ) -> Output:
        """Losses if there are targets; detections on request, and by default if there are none.

        Images (3, h, w), uint8 or float in [0, 1]; targets in pixels of these images.
        """
        batch = prepare_images(self.network.transform, images)
        features = self.network.features(batch)
        truth = None if targets is None else to_network(targets, batch, self.network.num_classes)
        losses = {} if truth is None else self.losses(features, batch, truth)
        rows = self.detect(features, batch) if detect or (detect is None and targets is None) else {}
        return Output(losses, {name: to_given(row, batch) for name, row in rows.items()})

    def losses(self, features: dict[str, Tensor], batch: ImageBatch, targets: Targets) -> dict[str, Tensor]:
        """L = alpha * L_pre + beta * L_post, term by term; targets in the network's pixels."""
        if self.stage is None:
            return self.network.candidates(features, batch, targets, origin="none")[1]
        config = self.stage.config
        candidates, losses = self.network.candidates(
            features, batch, targets, config.candidates, config.max_candidates, config.score_threshold
        )
        clusters = cluster(candidates, self.network.nms_threshold)
        weighted = {name: config.alpha * loss for name, loss in losses.items()}
        return weighted | self.stage.losses(features, batch.sizes, clusters, targets)

    def detect(self, features: dict[str, Tensor], batch: ImageBatch) -> dict[str, Detections]:
        """Both results of the same clusters, in the network's pixels."""
        candidates, _ = self.network.candidates(features, batch)
        clusters = cluster(candidates, self.network.nms_threshold)
        most = self.network.max_detections
        rows = {"nms": keep_keys(clusters, most)[0]}
        if self.stage is None:
            return rows
        rows["post_nms"] = self.stage.detect(features, batch.sizes, clusters, most)
        if (threshold := self.stage.config.second_nms) is not None:
            rows["post_nms_second_nms"] = nms_again(rows["post_nms"], threshold)
        return rows
