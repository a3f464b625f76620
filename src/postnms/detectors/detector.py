"""The pipeline of a detector with its post-NMS stage: images -> features -> candidates -> clusters -> both results.

B: images of the batch.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from postnms.clustering import cluster, keep_keys, nms_again
from postnms.detectors.image_batch import ImageBatch, check_images, pad_alike, to_given, to_network
from postnms.detectors.network import Network, Selection
from postnms.stage import PostNMSStage, StageConfig
from postnms.structures import Candidates, Detections, Targets


@dataclass(frozen=True)
class Output:
    """What one forward pass gives."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    """Scalars that sum to the total loss; empty without targets."""
    rows: dict[str, Detections] = field(default_factory=dict)
    """Results by name, in pixels of the images as given: ``nms``, and with a stage ``post_nms`` (and
    ``post_nms_second_nms`` if the stage has a second NMS)."""


class Detector(nn.Module):
    """A network that gives candidates, plain NMS, and the stage (None: the bare detector).

    ``frozen``: the network is not trained; it stays as at test time, and the losses are the stage's alone, on the
    candidates of the test.
    """

    def __init__(
        self, network: Network, stage: PostNMSStage | None = None, *, frozen: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: expected a torch.nn.Module, got {type(network).__name__}")
        if frozen:
            if stage is None:
                raise ValueError(
                    "frozen: expected a stage, without one there is nothing to train; got stage None"
                )
            if stage.config.candidates == "sampled":
                raise ValueError(
                    "stage.candidates: expected 'proposals' for a frozen network, got 'sampled'"
                )
            network.requires_grad_(False).eval()
        self.network: Network = network
        self.stage, self.frozen = stage, frozen

    def train(self, mode: bool = True) -> Self:
        """As of any module; a frozen network stays as at test time."""
        super().train(mode)
        if self.frozen:
            self.get_submodule("network").eval()
        return self

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Targets | None = None,
        *,
        detect: bool | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Output:
        """Losses if there are targets; detections on request, and by default if there are none.

        Images (3, h, w), uint8 or float in [0, 1]; targets in pixels of these images. ``generators``: of each image,
        where the random draws of its losses come from; None: torch's own.
        """
        check_images(images)
        batch = self.network.prepare(images)
        truth = None if targets is None else to_network(targets, batch, self.network.num_classes)
        if truth is not None:
            batch = dataclasses.replace(pad_alike(batch), generators=generators)
        features = self.network.features(batch)
        losses = {} if truth is None else self.losses(features, batch, truth)
        rows = (
            self.detect(features, batch) if detect or (detect is None and targets is None) else {}
        )
        return Output(losses, {name: to_given(row, batch) for name, row in rows.items()})

    def losses(
        self, features: dict[str, Tensor], batch: ImageBatch, targets: Targets
    ) -> dict[str, Tensor]:
        """L = alpha * L_pre + beta * L_post, term by term; targets in the network's pixels."""
        if self.stage is None:
            return self.network.candidates(features, batch, targets, Selection(origin="none"))[1]
        config = self.stage.config
        selection = Selection(config.candidates, config.max_candidates, config.score_threshold)
        trained = None if self.frozen else targets
        candidates, losses = self.network.candidates(features, batch, trained, selection)
        clusters = cluster(candidates, self.network.nms_threshold)
        weighted = {name: config.alpha * loss for name, loss in losses.items()}
        return weighted | self.stage.losses(features, clusters, targets)

    def detect(self, features: dict[str, Tensor], batch: ImageBatch) -> dict[str, Detections]:
        """Both results of the same clusters, in the network's pixels."""
        return self.finish(features, batch, self.network.candidates(features, batch)[0])

    def finish(
        self, features: dict[str, Tensor], batch: ImageBatch, candidates: Candidates
    ) -> dict[str, Detections]:
        """The pipeline from the candidates on."""
        clusters = cluster(candidates, self.network.nms_threshold)
        most = self.network.max_detections
        rows = {"nms": keep_keys(clusters, most)[0]}
        if self.stage is None:
            return rows
        rows["post_nms"] = self.stage.detect(features, batch.sizes, clusters, most)
        if (threshold := self.stage.config.second_nms) is not None:
            rows["post_nms_second_nms"] = nms_again(rows["post_nms"], threshold)
        return rows


def attach(
    network: Network, stage: StageConfig | None = StageConfig(), *, frozen: bool = False
) -> Detector:
    """A detector of any network with a new stage on it, on the network's device; ``stage=None``: the bare detector.

    ``frozen``: only the stage is trained. Raises ValueError for a frozen network without a stage.
    """
    built = None if stage is None else PostNMSStage(stage, network.levels, network.num_classes)
    detector = Detector(network, built, frozen=frozen)
    if (
        built is not None
        and (first := next(detector.get_submodule("network").parameters(), None)) is not None
    ):
        built.to(first.device)
    return detector


def row_names(detector: Detector) -> tuple[str, ...]:
    """Names of the rows that a detector gives."""
    if detector.stage is None:
        return ("nms",)
    second = () if detector.stage.config.second_nms is None else ("post_nms_second_nms",)
    return ("nms", "post_nms", *second)
