"""A detector as one program: pixels in, the detections of its rows out.

The program is what :meth:`postnms.Detector.forward` computes in evaluation mode for images of one
size, from the normalised pixels to the rows of NMS and of the stage. Networks, clustering, stage
and fusion are the modules and functions of the library itself.

B: images, d: detections.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from postnms.clustering import cluster, keep_keys
from postnms.detectors import Detector
from postnms.detectors.networks.ssd import SSD
from postnms.detectors.parts.backbone import pyramid
from postnms.export.candidates import Frames, candidates_of
from postnms.stage import PostNMSStage
from postnms.structures import NMS_ROW, POST_NMS_ROW, SECOND_NMS_ROW, Candidates, Clusters
from postnms.suppression.protocol import Suppressor

Form = Literal["onnx", "torch_export"]
"""Forms of a file."""


class BeforeNMS(nn.Module):
    """The first part of the path: pixels in, features and candidates out.

    Args:
        network: a network that :data:`~postnms.export.candidates.FOUND` has.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        transform = network.transform
        for name, values in (("mean", transform.image_mean), ("std", transform.image_std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Candidates, Tensor]:
        """Return features, candidates, and sizes (2, 2) int64.

        ``images`` is (B, 3, h, w) uint8. Candidates are in pixels of the network's input. The sizes
        are (height, width) of the images in that input, and of the images as they were given.
        """
        pixels, frames = self._prepared(images)
        features = pyramid(self.network.backbone, pixels)
        candidates = candidates_of(self.network, features, frames)
        given = _tensor_of(images.shape[2], images.shape[3])
        return features, candidates, torch.stack([frames.size, given])

    def _prepared(self, images: Tensor) -> tuple[Tensor, Frames]:
        """Normalise, resize and pad as torchvision's transform does."""
        pixels = (images.float() / 255 - self.mean) / self.std
        count, _, height, width = images.shape
        transform = self.network.transform
        if isinstance(self.network, SSD):
            width, height = transform.fixed_size
            pixels = F.interpolate(pixels, (height, width), mode="bilinear", align_corners=False)
        step = transform.size_divisible
        # ONNX divides towards zero, so no number may be below 0 here.
        padded = (height + step - 1) // step * step, (width + step - 1) // step * step
        pixels = F.pad(pixels, (0, padded[1] - width, 0, padded[0] - height))
        return pixels, Frames(count, padded, _tensor_of(height, width))


class AfterNMS(nn.Module):
    """The last part of the path: features and clusters in, the columns of the rows out.

    Args:
        detector: where the stage and the suppressors are from.
        rows: what :func:`exported_rows` gives, or some of it.
    """

    def __init__(self, detector: Detector, rows: Sequence[str]) -> None:
        super().__init__()
        network: Any = detector.network
        self.rows = tuple(rows)
        self.max_detections = network.max_detections
        self.resizes = isinstance(network, SSD)
        self.suppressors = {name: s for name, s in detector.suppressors.items() if name in rows}
        self.stage = None
        if detector.stage is not None:
            self.stage = _with_rows(detector.stage, rows, self.max_detections)

    def forward(
        self, features: dict[str, Tensor], clusters: Clusters, sizes: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the columns of all rows, one row after the other, in the order of ``rows``.

        ``sizes`` are those of :class:`BeforeNMS`.
        """
        rows = {NMS_ROW: keep_keys(clusters, self.max_detections)[0]}
        rows |= {name: keep(clusters.candidates) for name, keep in self.suppressors.items()}
        if self.stage is not None:
            of_images = sizes[0].expand(clusters.candidates.num_images, 2)
            rows |= self.stage.rows(features, of_images, clusters, self.max_detections)
        outputs: list[Tensor] = []
        for name in self.rows:
            row = rows[name]
            outputs += [self._given(row.boxes, sizes), row.scores, row.labels, row.image]
        return tuple(outputs)

    def _given(self, boxes: Tensor, sizes: Tensor) -> Tensor:
        """Return boxes in pixels of the images as they were given."""
        if not self.resizes:
            return boxes
        return boxes / (sizes[0] / sizes[1]).flip(0).repeat(2)


class DetectionGraph(nn.Module):
    """The program of a detector.

    Its input is (B, 3, h, w) uint8, RGB: images that are resized already. Its outputs are, for each
    row, boxes (d, 4) float32 in pixels of the input, scores (d,) float32, labels (d,) int64 and
    image (d,) int64, by image, then by falling score.

    Args:
        detector: a detector whose network :data:`~postnms.export.candidates.FOUND` has.
        rows: what :func:`exported_rows` gives, or some of it.
    """

    def __init__(self, detector: Detector, rows: Sequence[str]) -> None:
        super().__init__()
        self.before, self.after = BeforeNMS(detector.network), AfterNMS(detector, rows)
        self.rows = self.after.rows
        self.nms_threshold = detector.network.nms_threshold

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the columns of all rows, one row after the other, in the order of ``rows``."""
        features, candidates, sizes = self.before(images)
        return self.after(features, cluster(candidates, self.nms_threshold), sizes)


def exported_rows(detector: Detector, form: Form) -> tuple[str, ...]:
    """Return the rows of a detector that a file of a form can give, in their order."""
    takes = _takes(form)
    suppressors = dict(detector.suppressors)
    if (stage := detector.stage) is not None and stage.suppressor is not None:
        suppressors[stage.row_names[-1]] = stage.suppressor
    known = {name for name, suppressor in suppressors.items() if takes(suppressor)}
    known |= {NMS_ROW, POST_NMS_ROW, SECOND_NMS_ROW}
    return tuple(name for name in detector.row_names if name in known)


def _takes(form: Form) -> Callable[[Suppressor], bool]:
    """Return whether a form can hold a suppressor, as a function."""
    if form == "onnx":
        from postnms.export.suppressors import has_form

        return has_form
    # A program of torch holds any suppressor as one operator. No head gives it further columns.
    return lambda suppressor: not suppressor.columns


def _with_rows(stage: PostNMSStage, rows: Sequence[str], most: int) -> PostNMSStage:
    """Return a stage of the same networks that gives these of its rows alone."""
    same = copy.copy(stage)
    same.row_names = tuple(name for name in stage.row_names if name in rows)
    if SECOND_NMS_ROW not in rows:
        same.config = stage.config.model_copy(update={"second_nms": None})
    if stage.suppressor is not None:
        # The stage keeps the best of what its suppressor gives. Further ones need no rounds.
        limited = stage.suppressor.model_copy(update={"max_detections": most})
        same.suppressor = limited if stage.row_names[-1] in rows else None
    return same


def _tensor_of(height: int, width: int) -> Tensor:
    """Return a size as a tensor (2,) int64. The sides may be symbols."""
    return torch.stack([torch.scalar_tensor(side, dtype=torch.int64) for side in (height, width)])
