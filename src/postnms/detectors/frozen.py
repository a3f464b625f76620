"""What a frozen network gives for an image, kept from one epoch to the next.

The network of a frozen detector gives the same features and candidates for the same image in every
epoch. Only the stage learns from them. So they are computed once, and training then costs what the
stage costs.

B: images of a batch, C: channels.
"""

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from postnms.detectors.image_batch import ImageBatch
from postnms.structures import Candidates, join_images, move, of_image

Outputs = tuple[dict[str, Tensor], Candidates]
"""Feature maps (B, C, H, W) by name, and the candidates of the batch."""
ALIGNMENT = 64
"""Each feature map begins at a multiple of this many bytes."""


@dataclass(frozen=True)
class Remembered:
    """The outputs for one image."""

    levels: dict[str, Tensor]
    """Feature maps (H, W, C) by name."""
    candidates: Candidates
    """Those of this image alone."""


class FeatureMemory:
    """Keeps the outputs of a frozen network for each image, up to a limit.

    An image is known by its pixels and by the size that it is padded to, since both decide what a
    network sees. So a mirrored image is another image. When the limit is reached, the outputs for
    further images are computed each time. The network must not change meanwhile.

    Args:
        most_bytes: the limit, in bytes of feature maps. The system gives memory, or room on the
            disk, only to what is filled.
        folder: a memory-mapped file in this folder holds the maps. It has no name, and it vanishes
            with the object. None: they are held in memory.
    """

    def __init__(self, most_bytes: int, folder: Path | None = None) -> None:
        if folder is None:
            self._bytes = torch.empty(most_bytes, dtype=torch.uint8, device="cpu")
        else:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.truncate(most_bytes)
                self._bytes = torch.from_numpy(np.memmap(file, np.uint8, "r+", 0, most_bytes))
        self._used = 0
        self._kept: dict[bytes, Remembered] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @torch.no_grad()
    def recall(
        self, images: Sequence[Tensor], batch: ImageBatch, compute: Callable[[ImageBatch], Outputs]
    ) -> Outputs:
        """Return the outputs for a batch. Only images that are not known are computed.

        Args:
            images: (3, h, w) each, as they were given to the detector.
            batch: the same images in the form of the network's input.
            compute: gives the outputs for a part of the batch.
        """
        padded = tuple(batch.pixels.shape[2:])
        keys = [_key(image, padded) for image in images]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        missing = [row for row, key in enumerate(keys) if key not in found]
        if missing:
            levels, candidates = compute(_rows_of(batch, missing))
            for place, row in enumerate(missing):
                of_one = {name: level[place] for name, level in levels.items()}
                found[keys[row]] = self._keep(keys[row], of_one, of_image(candidates, place))
        parts = [found[key] for key in keys]
        device = batch.pixels.device
        # The channels are innermost, as the kernels of the stage read them.
        stacked = {
            name: torch.stack([part.levels[name] for part in parts]).to(device).permute(0, 3, 1, 2)
            for name in parts[0].levels
        }
        return stacked, move(join_images([part.candidates for part in parts]), device)

    def _keep(self, key: bytes, levels: dict[str, Tensor], candidates: Candidates) -> Remembered:
        """Return the outputs for an image, and keep them if there is room."""
        whole = {name: level.permute(1, 2, 0).contiguous() for name, level in levels.items()}
        sizes = {name: -(-level.nbytes // ALIGNMENT) * ALIGNMENT for name, level in whole.items()}
        here = move(candidates, "cpu")
        if self._used + sum(sizes.values()) > len(self._bytes):
            return Remembered({name: level.cpu() for name, level in whole.items()}, here)
        kept = {}
        for name, level in whole.items():
            place = self._bytes[self._used : self._used + level.nbytes]
            kept[name] = place.view(level.dtype).view(level.shape)
            kept[name].copy_(level)
            self._used += sizes[name]
        self._kept[key] = Remembered(kept, here)
        return self._kept[key]


def _key(image: Tensor, padded: tuple[int, ...]) -> bytes:
    """Return a fingerprint of an image (3, h, w) and of its padded (height, width)."""
    pixels = image.detach().cpu().contiguous()
    about = f"{tuple(pixels.shape)} {pixels.dtype} {padded}".encode()
    digest = hashlib.blake2b(about, digest_size=16)
    digest.update(pixels.numpy().data)
    return digest.digest()


def _rows_of(batch: ImageBatch, rows: list[int]) -> ImageBatch:
    """Return some images of a batch as a batch of the same padding."""
    return dataclasses.replace(
        batch,
        pixels=batch.pixels[rows],
        sizes=[batch.sizes[row] for row in rows],
        given=[batch.given[row] for row in rows],
        generators=None,
    )
