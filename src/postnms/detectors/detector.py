"""The pipeline of a detector with its post-NMS stage, on one screen.

images -> features -> candidates -> clusters -> the rows of plain NMS, of its rivals and of the
stage.

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
from postnms.rivals import CandidateHeads
from postnms.stage import PostNMSStage, StageConfig
from postnms.structures import (
    NMS_ROW,
    POST_NMS_ROW,
    Candidates,
    Detections,
    Targets,
    derive,
)
from postnms.suppression import Suppressor
from postnms.suppression.registry import choose_each


class Detector(nn.Module):
    """A network that gives candidates, plain NMS on them, rivals of it, and the stage.

    Args:
        network: a module with the members of :class:`postnms.Network`.
        stage: None: the bare detector.
        heads: learned rivals that look at every candidate. None: there are none.
        suppressors: further suppressors of the network's candidates, as ``postnms compare`` takes
            them. Each gives a row of its name, without its settings. Unless these name a limit of
            detections, it is that of the network.
        frozen: train only the stage and the heads. The network stays in evaluation mode without
            gradients, and the stage learns from the candidates that the network gives in evaluation
            mode.
        dict_labels: the label of each class 0..K-1 in torchvision's dicts, which targets may be and
            :meth:`Output.to_torchvision` gives. None: 0..K-1. :func:`postnms.from_torchvision`
            takes the labels of the model: 1..K where label 0 is the background.

    Raises ValueError if two rows have one name, or if there is nothing to train.
    """

    def __init__(
        self,
        network: Network,
        stage: PostNMSStage | None = None,
        *,
        heads: CandidateHeads | None = None,
        suppressors: Sequence[str] = (),
        frozen: bool = False,
        dict_labels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: expected a torch.nn.Module, got {type(network).__name__}")
        self.network: Network = network
        self.stage = stage
        self.heads = heads
        self.suppressors = _suppressors(suppressors, network.max_detections)
        self.frozen = False
        self.stage_frozen = False
        self.dict_labels = tuple(range(network.num_classes) if dict_labels is None else dict_labels)
        self.clustering: str | None = None
        """Backend of :func:`postnms.cluster_nms`. None: the fastest one for the device."""
        self.memory: FeatureMemory | None = None
        """What a frozen network gives for the training images. None: nothing is kept."""
        names = self.row_names
        if len(set(names)) != len(names):
            raise ValueError(f"suppressors: expected rows of different names, got {list(names)}")
        if frozen:
            self.freeze()

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of the rows that this detector gives, in their order."""
        of_heads = () if self.heads is None else self.heads.row_names
        of_stage = () if self.stage is None else self.stage.row_names
        return (NMS_ROW, *self.suppressors, *of_heads, *of_stage)

    def freeze(self, *, stage: bool = False) -> None:
        """Train only the stage and the heads from now on, as with ``frozen``.

        ``stage``: leave the stage as it is too, and train only the heads.

        Raises ValueError if nothing is left to train, or if the stage is trained on what the
        network samples.
        """
        if self.stage is None and self.heads is None:
            raise ValueError(
                "frozen: expected a stage, without one there is nothing to train; got stage None"
            )
        if stage and self.heads is None:
            raise ValueError("frozen: expected heads, without them there is nothing to train")
        if self.stage is not None and self.stage.config.candidates == "sampled":
            raise ValueError(
                "stage.candidates: expected 'proposals' for a frozen network, got 'sampled'"
            )
        self.frozen = True
        self.get_submodule("network").requires_grad_(False).eval()
        self.stage_frozen = stage and self.stage is not None
        if self.stage is not None and stage:
            self.stage.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode, as for any module. What is frozen stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.get_submodule("network").eval()
        if self.stage is not None and self.stage_frozen:
            self.stage.eval()
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
                return Output(self._join_losses(features, batch, candidates, {}, truth))
            return self._run(batch, truth, detect=detect)

    @property
    def _trained_stage(self) -> PostNMSStage | None:
        """The stage, if it is trained."""
        return None if self.stage_frozen else self.stage

    def _frozen_outputs(self, batch: ImageBatch) -> tuple[dict[str, Tensor], Candidates]:
        """Return what the stage and the heads are trained on, as a frozen network gives it."""
        features = self.network.features(batch)
        candidates, _ = self._candidates_to_train_on(features, batch, None)
        return {name: features[name] for name in self.network.levels}, candidates

    def _candidates_to_train_on(
        self, features: dict[str, Tensor], batch: ImageBatch, targets: Targets | None
    ) -> tuple[Candidates, Mapping[str, Tensor | CountedLoss]]:
        """Return what the stage learns from, and with ``targets`` the losses of the network.

        Without targets a network gives the candidates of evaluation mode and no losses.
        """
        stage = self._trained_stage
        if stage is not None:
            selection = _selection(stage.config)
            return self.network.candidates(features, batch, targets, selection)
        if targets is None:
            return _no_candidates(len(batch.sizes), batch.pixels.device), {}
        return self.network.candidates(features, batch, targets, Selection(losses_only=True))

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
        trained_on = None if self.frozen else targets
        candidates, losses = self._candidates_to_train_on(features, batch, trained_on)
        return self._join_losses(features, batch, candidates, losses, targets)

    def _join_losses(
        self,
        features: dict[str, Tensor],
        batch: ImageBatch,
        candidates: Candidates,
        losses: Mapping[str, Tensor | CountedLoss],
        targets: Targets,
    ) -> dict[str, Tensor]:
        """Return the losses of the network times alpha, and those of the stage and the heads."""
        further: dict[str, CountedLoss] = {}
        alpha = 1.0
        if (stage := self._trained_stage) is not None:
            clusters = cluster(candidates, self.network.nms_threshold)
            further |= stage.counted_losses(features, clusters, targets)
            alpha = stage.config.alpha
        if self.heads is not None:
            further |= self.heads.counted_losses(features, batch.sizes, targets, batch.generators)
        # One collective serves all losses.
        settled = settle({**losses, **further}, batch.pixels.device)
        return {name: loss if name in further else alpha * loss for name, loss in settled.items()}

    def detect(
        self, features: dict[str, Tensor], batch: ImageBatch
    ) -> tuple[dict[str, Detections], Tensor]:
        """Return all rows of the same candidates, in pixels of the network's input, and the cut."""
        candidates = self._judged(features, self.network.candidates(features, batch)[0])
        return self.suppress(features, batch, candidates)

    def _judged(self, features: dict[str, Tensor], candidates: Candidates) -> Candidates:
        """Return the candidates with the columns of the heads."""
        return candidates if self.heads is None else self.heads.judge(features, candidates)

    def suppress(
        self, features: dict[str, Tensor], batch: ImageBatch, candidates: Candidates
    ) -> tuple[dict[str, Detections], Tensor]:
        """Return all rows of the given candidates: the pipeline from the clusters on.

        The candidates have the columns of the heads. The second result is ``cut`` of
        :class:`Output`.
        """
        clusters = cluster(candidates, self.network.nms_threshold)
        most = self.network.max_detections
        cut = cut_images(candidates.image[clusters.keys], candidates.num_images, most)
        rows = {NMS_ROW: keep_keys(clusters, most)[0]}
        rows |= {name: suppressor(candidates) for name, suppressor in self.suppressors.items()}
        if self.heads is not None:
            threshold = self.network.nms_threshold
            rows |= self.heads.rows(features, batch.sizes, candidates, threshold, most)
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
        own = self._judged(features, self.network.candidates(features, batch)[0])
        begin = time.perf_counter()
        rows, _ = self.suppress(features, batch, own)
        if batch.pixels.device.type != "cpu":
            torch.accelerator.synchronize()
        milliseconds = 1000 * (time.perf_counter() - begin)
        asked, _ = self.network.candidates(features, batch, None, selection)
        candidates = self._judged(features, asked)
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


def _no_candidates(num_images: int, device: torch.device) -> Candidates:
    """Return a batch of images without any candidate."""
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    scores = torch.zeros(0, device=device)
    boxes = scores.view(0, 4)
    return Candidates(boxes, scores, nothing, nothing, nothing, num_images=num_images)


def _suppressors(texts: Sequence[str], max_detections: int) -> dict[str, Suppressor]:
    """Return suppressors by their names, with a limit of detections unless they have their own.

    Raises UserError for a text that names no suppressor, and ValueError for two of one name.
    """
    limit = {"max_detections": max_detections}
    return {
        # The settings of a text are as the user wrote them. Those of the suppressor are checked.
        choice.family: choice.suppressor
        if "max_detections" in choice.settings
        else choice.suppressor.model_copy(update=limit)
        for choice in choose_each(texts)
    }
