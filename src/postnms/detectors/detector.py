"""The pipeline of a detector with its post-NMS stage, on one screen.

images -> features -> candidates -> clusters -> the rows of plain NMS and of the stage.

B: images of the batch.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from postnms.clustering import cluster, keep_keys
from postnms.detectors.frozen import FeatureMemory
from postnms.detectors.image_batch import (
    ImageBatch,
    check_images,
    check_targets,
    pad_alike,
    to_given,
    to_network,
)
from postnms.detectors.modes import eval_mode
from postnms.detectors.network import Network, Selection
from postnms.detectors.output import Output, Trace
from postnms.detectors.torchvision.dicts import targets_of_dicts
from postnms.distributed.collectives import CountedLoss, settle
from postnms.ops.clustering import preferred_backend
from postnms.orders import cut_images
from postnms.stage import PostNMSStage, StageConfig
from postnms.structures import (
    NMS_ROW,
    POST_NMS_ROW,
    Candidates,
    Detections,
    Targets,
    derive,
)


class Detector(nn.Module):
    """A network that gives candidates, plain NMS on them, and the stage.

    Args:
        network: a module with the members of :class:`postnms.Network`.
        stage: None: the bare detector.
        frozen: train only the stage. The network stays in evaluation mode without gradients, and
            the stage learns from the candidates that the network gives in evaluation mode.
        dict_labels: the label of each class 0..K-1 in torchvision's dicts, which targets may be and
            :meth:`Output.to_torchvision` gives. None: 0..K-1. :func:`postnms.from_torchvision`
            takes the labels of the model: 1..K where label 0 is the background.
    """

    def __init__(
        self,
        network: Network,
        stage: PostNMSStage | None = None,
        *,
        frozen: bool = False,
        dict_labels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: expected a torch.nn.Module, got {type(network).__name__}")
        self.network: Network = network
        self.stage = stage
        self.frozen = False
        self.dict_labels = tuple(range(network.num_classes) if dict_labels is None else dict_labels)
        self.clustering: str | None = None
        """Backend of :func:`postnms.cluster_nms`. None: the fastest one for the device."""
        self.memory: FeatureMemory | None = None
        """What a frozen network gives for the training images. None: nothing is kept."""
        if frozen:
            self.freeze()

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of the rows that this detector gives, in their order."""
        return (NMS_ROW,) if self.stage is None else (NMS_ROW, *self.stage.row_names)

    def freeze(self) -> None:
        """Train only the stage from now on, as with ``frozen``.

        Raises ValueError if there is no stage, or if it is trained on what the network samples.
        """
        if self.stage is None:
            raise ValueError(
                "frozen: expected a stage, without one there is nothing to train; got stage None"
            )
        if self.stage.config.candidates == "sampled":
            raise ValueError(
                "stage.candidates: expected 'proposals' for a frozen network, got 'sampled'"
            )
        self.frozen = True
        self.get_submodule("network").requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode, as for any module. A frozen network stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.get_submodule("network").eval()
        return self

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Targets | Sequence[Mapping[str, Tensor]] | None = None,
        *,
        detect: bool | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Output:
        """Compute losses if there are targets, and detections otherwise or on request.

        Args:
            images: tensors (3, h, w), uint8 or float in [0, 1], of any sizes.
            targets: the ground truth in pixels of these images. Or torchvision's list of a dict for
                each image with ``boxes``, ``labels`` and, for crowd regions, ``iscrowd``, where
                ``dict_labels`` says which label is which class.
            detect: whether to compute detections. None: only without targets.
            generators: the source of the random draws of the losses, one for each image. None:
                torch's own generator.

        Raises:
            ValueError: images, targets or generators are not of this form, a label is no class of
                the network, or a box has no area. The message names the argument.
        """
        check_images(images)
        if isinstance(targets, list | tuple):
            targets = targets_of_dicts(targets, self.dict_labels)
        if targets is not None:
            check_targets(targets, len(images))
        if generators is not None and len(generators) != len(images):
            raise ValueError(
                f"generators: expected one for each of {len(images)} images, got {len(generators)}"
            )
        batch = self.network.prepare(images)
        truth = None
        if targets is not None:
            assert isinstance(targets, Targets)
            truth = to_network(targets, batch, self.network.num_classes)
            batch = dataclasses.replace(pad_alike(batch), generators=generators)
        if detect is None:
            detect = targets is None
        with preferred_backend(self.clustering):
            if self.memory is not None and truth is not None and not detect:
                features, candidates = self.memory.recall(images, batch, self._frozen_outputs)
                return Output(self._join_losses(features, candidates, {}, truth))
            return self._run(batch, truth, detect=detect)

    def _frozen_outputs(self, batch: ImageBatch) -> tuple[dict[str, Tensor], Candidates]:
        """Return what the stage is trained on, as a frozen network gives it."""
        assert self.stage is not None
        features = self.network.features(batch)
        selection = _selection(self.stage.config)
        candidates, _ = self.network.candidates(features, batch, None, selection)
        return {name: features[name] for name in self.stage.levels}, candidates

    def _run(self, batch: ImageBatch, truth: Targets | None, *, detect: bool) -> Output:
        """Compute losses if there is a truth in the network's pixels, and detections if asked."""
        features = self.network.features(batch)
        losses = {} if truth is None else self.losses(features, batch, truth)
        rows, cut = self.detect(features, batch) if detect else ({}, None)
        given = {name: to_given(row, batch) for name, row in rows.items()}
        return Output(losses, given, cut, self.dict_labels)

    def losses(
        self, features: dict[str, Tensor], batch: ImageBatch, targets: Targets
    ) -> dict[str, Tensor]:
        """Return the terms of L = alpha * L_pre + beta * L_post (paper: section 3.3).

        The targets are in pixels of the network's input.
        """
        device = batch.pixels.device
        if self.stage is None:
            only = Selection(losses_only=True)
            return settle(self.network.candidates(features, batch, targets, only)[1], device)
        # Without targets a frozen network gives the candidates of evaluation mode and no losses.
        trained_on = None if self.frozen else targets
        selection = _selection(self.stage.config)
        candidates, losses = self.network.candidates(features, batch, trained_on, selection)
        return self._join_losses(features, candidates, losses, targets)

    def _join_losses(
        self,
        features: dict[str, Tensor],
        candidates: Candidates,
        losses: Mapping[str, Tensor | CountedLoss],
        targets: Targets,
    ) -> dict[str, Tensor]:
        """Return the losses of the network times alpha, and those of the stage."""
        assert self.stage is not None
        clusters = cluster(candidates, self.network.nms_threshold)
        # One collective serves the losses of the network and those of the stage.
        of_stage = self.stage.counted_losses(features, clusters, targets)
        settled = settle({**losses, **of_stage}, clusters.keys.device)
        alpha = self.stage.config.alpha
        return {name: loss if name in of_stage else alpha * loss for name, loss in settled.items()}

    def detect(
        self, features: dict[str, Tensor], batch: ImageBatch
    ) -> tuple[dict[str, Detections], Tensor]:
        """Return all rows of the same candidates, in pixels of the network's input, and the cut."""
        return self.suppress(features, batch, self.network.candidates(features, batch)[0])

    def suppress(
        self, features: dict[str, Tensor], batch: ImageBatch, candidates: Candidates
    ) -> tuple[dict[str, Detections], Tensor]:
        """Return all rows of the given candidates: the pipeline from the clusters on.

        The second result is ``cut`` of :class:`Output`.
        """
        clusters = cluster(candidates, self.network.nms_threshold)
        most = self.network.max_detections
        cut = cut_images(candidates.image[clusters.keys], candidates.num_images, most)
        rows = {NMS_ROW: keep_keys(clusters, most)[0]}
        if self.stage is not None:
            rows |= self.stage.rows(features, batch.sizes, clusters, most)
        return rows, cut

    @torch.no_grad()
    def trace(self, images: Sequence[Tensor], selection: Selection = Selection()) -> Trace:
        """Run the pipeline in evaluation mode and keep the candidates as well.

        The rows come from the detector's own selection of candidates, the candidates from the
        ``selection`` that is asked for.
        """
        with eval_mode(self), preferred_backend(self.clustering):
            return self._trace(images, selection)

    def _trace(self, images: Sequence[Tensor], selection: Selection) -> Trace:
        check_images(images)
        batch = self.network.prepare(images)
        features = self.network.features(batch)
        own, _ = self.network.candidates(features, batch)
        begin = time.perf_counter()
        rows, _ = self.suppress(features, batch, own)
        if batch.pixels.device.type != "cpu":
            torch.accelerator.synchronize()
        milliseconds = 1000 * (time.perf_counter() - begin)
        candidates, _ = self.network.candidates(features, batch, None, selection)
        if self.stage is not None:
            clusters = cluster(candidates, self.network.nms_threshold)
            judged = self.stage.judge(features, batch.sizes, clusters)
            candidates = derive(candidates, extra={**candidates.extra, **judged})
        return Trace(
            to_given(candidates, batch),
            {name: to_given(row, batch) for name, row in rows.items()},
            {} if self.stage is None else {POST_NMS_ROW: milliseconds},
        )


def _selection(config: StageConfig) -> Selection:
    """Return which candidates the stage is trained on."""
    return Selection(config.candidates, config.max_candidates, config.score_threshold)


def attach(
    network: Network,
    stage: StageConfig | None = StageConfig(),
    *,
    frozen: bool = False,
    dict_labels: Sequence[int] | None = None,
) -> Detector:
    """Put a new stage on any network, on the network's device.

    Args:
        network: a module with the members of :class:`postnms.Network`.
        stage: settings of the stage. None: the bare detector.
        frozen: train only the stage.
        dict_labels: the label of each class in torchvision's dicts, as in :class:`Detector`.

    Raises ValueError for a frozen network without a stage.
    """
    built = None
    if stage is not None:
        built = PostNMSStage(stage, network.levels, network.num_classes)
    detector = Detector(network, built, frozen=frozen, dict_labels=dict_labels)
    first = next(detector.get_submodule("network").parameters(), None)
    if built is not None and first is not None:
        built.to(first.device)
    return detector
