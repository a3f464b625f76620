"""NanoDet-Plus with the stage: a dense detector without anchors that somebody else has trained.

``docs/your_detector.md`` explains the interface. This file has no network of its own. It takes the
user's module, with its weights loaded, whose forward pass of images (B, 3, H, W) gives an object
with these attributes:

- ``neck`` and ``feat``: a list each of four maps (B, C, h, w) at strides 8, 16, 32 and 64. ``neck``
  is what the pyramid gives, and ``feat`` is what the last convolution of the head sees.
- ``logits``: (B, A, K), one number for each cell and class before the sigmoid.
- ``dist``: (B, A, 4, R), raw weights of the distances 0, 1, ... R - 1 to the left, top, right and
  bottom side of the box, in strides.

Example:
    network = NanoDetPlusNetwork(module.eval())
    detector = attach(network, StageConfig(width=128), frozen=True)

B: images, K: classes, A: cells of all levels, row by row and fine levels first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from postnms import (
    Candidates,
    ImageBatch,
    Level,
    Selection,
    Targets,
    UserError,
    as_at_test,
    clip,
    limit,
)

STRIDES = (8, 16, 32, 64)
MEAN = (103.53, 116.28, 123.675)
"""Mean of blue, green and red, of values in [0, 255]."""
STD = (57.375, 57.12, 58.395)
"""Standard deviation of blue, green and red."""


class NanoDetPlusNetwork(nn.Module):
    """The members of :class:`postnms.Network` around a trained NanoDet-Plus.

    It has no losses, so the detector is built with ``frozen=True``.

    Args:
        module: the user's module, as described above.
        maps: the maps that the stage pools from, ``neck`` or ``feat``.
        side: side in pixels of the square that every image is squashed to. The aspect ratio is not
            kept, as in the training of NanoDet-Plus.
        score_threshold: candidates score more than this, in [0, 1].
        max_candidates: largest number of candidates for each image, chosen by score. None: all.
        nms_threshold: NMS suppresses boxes that overlap a key with an IoU over this.
        max_detections: largest number of detections for each image.

    Raises:
        UserError: the outputs of the module are not of the form described above.
    """

    mean: Tensor
    std: Tensor
    reach: Tensor

    def __init__(
        self,
        module: nn.Module,
        *,
        maps: Literal["neck", "feat"] = "feat",
        side: int = 416,
        score_threshold: float = 0.05,
        max_candidates: int | None = 1000,
        nms_threshold: float = 0.6,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.module = module
        self.maps = maps
        self.side = side
        self.score_threshold = score_threshold
        self.max_candidates = max_candidates
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        # One image shows how wide the maps are and how many classes there are.
        outputs = _outputs_of_one_image(module, side)
        levels = list(getattr(outputs, maps))
        _check_outputs(levels, outputs.logits, outputs.dist)
        self.levels = {
            f"stride_{stride}": Level(level.shape[1], stride)
            for stride, level in zip(STRIDES, levels, strict=True)
        }
        self.num_classes = outputs.logits.shape[2]
        # They are no weights, so the state dict is that of the module alone.
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        reach = torch.arange(outputs.dist.shape[3], dtype=torch.float32)
        self.register_buffer("reach", reach, persistent=False)

    def prepare(self, images: Sequence[Tensor]) -> ImageBatch:
        """Squash images (3, h, w) of RGB, uint8 or float in [0, 1], and normalise them as BGR."""
        pixels = torch.cat([self._squash(image) for image in images])
        sizes = [(self.side, self.side)] * len(images)
        given = [(image.shape[1], image.shape[2]) for image in images]
        return ImageBatch((pixels - self.mean) / self.std, sizes, given)

    def features(self, images: ImageBatch) -> dict[str, Tensor]:
        """Return the maps of the stage by level, and the raw ``logits`` and ``dist``."""
        outputs = self.module(images.pixels)
        levels = getattr(outputs, self.maps)
        named = dict(zip(self.levels, levels, strict=True))
        return {**named, "logits": outputs.logits, "dist": outputs.dist}

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, Mapping[str, Tensor]]:
        """Return each pair of a cell and a class that scores over the threshold.

        Raises UserError if losses or sampled proposals are asked for.
        """
        if targets is not None:
            raise UserError("NanoDetPlusNetwork: expected frozen=True, since it has no losses")
        if selection.origin == "sampled":
            raise UserError(
                "stage.candidates: expected 'proposals', got 'sampled': no cell is sampled"
            )
        logits, weights = (features[name].detach().float() for name in ("logits", "dist"))
        if not (logits.isfinite().all() and weights.isfinite().all()):
            raise UserError("module: expected finite logits and dist, got NaN or infinity")
        scores = logits.sigmoid()
        threshold = selection.threshold(self.score_threshold)
        image, cell, label = (scores > threshold).nonzero(as_tuple=True)
        cells = self._cells(features)[cell]
        boxes = self._decode(weights[image, cell], cells)
        boxes = clip(boxes, torch.tensor(images.sizes, device=boxes.device)[image])
        found = Candidates(
            boxes, scores[image, cell, label], label, image, cell, num_images=len(images.sizes)
        )
        return limit(limit(found, self.max_candidates), selection.most), {}

    def _squash(self, image: Tensor) -> Tensor:
        """Return an image (3, h, w) as BGR in [0, 255], in the size of the input."""
        values = image.float() if image.dtype == torch.uint8 else image.float() * 255
        size = (self.side, self.side)
        return F.interpolate(values.flip(0)[None], size, mode="bilinear", align_corners=False)

    def _cells(self, features: dict[str, Tensor]) -> Tensor:
        """Return x, y and stride of every cell, in pixels: (A, 3) float32.

        The point of a cell is its top left corner.
        """
        parts = []
        for name, level in self.levels.items():
            height, width = features[name].shape[2:]
            y, x = (
                torch.arange(count, dtype=torch.float32, device=self.reach.device) * level.stride
                for count in (height, width)
            )
            points = torch.cartesian_prod(y, x).flip(1)
            parts.append(F.pad(points, (0, 1), value=level.stride))
        return torch.cat(parts)

    def _decode(self, weights: Tensor, cells: Tensor) -> Tensor:
        """Return boxes (n, 4) of raw weights (n, 4, R) of distances, at cells (n, 3)."""
        # Each distance is the mean of its distribution (arXiv 2006.04388, section 3.2).
        distances = weights.softmax(dim=2) @ self.reach * cells[:, 2:]
        points = cells[:, :2]
        return torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1)


def _outputs_of_one_image(module: nn.Module, side: int) -> Any:
    """Return what the module gives for one grey image. Raise UserError if a part is missing."""
    first = next(module.parameters(), torch.zeros(0))
    with as_at_test(module):
        outputs = module(torch.zeros(1, 3, side, side, dtype=first.dtype, device=first.device))
    for name in ("neck", "feat", "logits", "dist"):
        if not hasattr(outputs, name):
            raise UserError(
                f"module: expected outputs neck, feat, logits and dist, got no {name} "
                f"in {type(outputs).__name__}"
            )
    return outputs


def _check_outputs(levels: Sequence[Tensor], logits: Tensor, dist: Tensor) -> None:
    """Raise UserError unless there is a map for each stride, and an output for each cell."""
    shapes = [tuple(level.shape) for level in levels]
    cells = sum(level[0, 0].numel() for level in levels)
    if len(levels) != len(STRIDES) or logits.shape[:2] != (1, cells):
        raise UserError(
            f"module: expected maps at strides {STRIDES} and logits for each of their cells, "
            f"got maps {shapes} and logits {tuple(logits.shape)}"
        )
    if dist.ndim != 4 or dist.shape[:3] != (1, cells, 4):
        raise UserError(f"module: expected dist (1, {cells}, 4, R), got {tuple(dist.shape)}")
