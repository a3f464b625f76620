"""Samples, batches, and the order of the training batches.

The order is endless. It depends on the seed and on the position alone, so a run can be resumed
at any batch.

B: images of a batch.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data
from torch.utils.data import Sampler
from torchvision.transforms.v2.functional import pil_to_tensor

from postnms.data.dataset import Dataset, ImageId
from postnms.data.image_files import MAX_PIXELS
from postnms.data.records import sizes_of_records
from postnms.data.resizing import resize
from postnms.data.transforms import AugmentationConfig, Sample, augment
from postnms.data.workers import load_ahead, worth_starting
from postnms.structures import Targets, take


@dataclass(frozen=True)
class Batch:
    """The images of one training step or one evaluation step, before padding.

    The detector pads them to one size.
    """

    images: list[Tensor]
    """(3, height, width) uint8 for each image, RGB. The sizes may differ."""
    targets: Targets
    """The objects of all images, in pixels of ``images``."""
    image_ids: list[ImageId]
    """The id of each image in the annotations."""
    original_sizes: list[tuple[int, int]]
    """(height, width) in pixels of each image before resizing."""

    @property
    def to_original(self) -> Tensor:
        """(B, 2) float64: factors of x and y from ``images`` back to the original images."""
        pairs = zip(self.images, self.original_sizes, strict=True)
        factors = [
            (width / image.shape[2], height / image.shape[1]) for image, (height, width) in pairs
        ]
        return torch.tensor(factors, dtype=torch.float64, device="cpu").view(-1, 2)

    def images_from(self, rows: slice) -> "Batch":
        """Return some of the images with their objects, as a batch of their own."""
        chosen = range(len(self.images))[rows]
        targets = take(
            self.targets,
            (self.targets.image >= chosen.start) & (self.targets.image < chosen.stop),
        )
        shifted = replace(targets, image=targets.image - chosen.start, num_images=len(chosen))
        return Batch(self.images[rows], shifted, self.image_ids[rows], self.original_sizes[rows])

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, from where copies to a GPU need no wait.

        torch's ``DataLoader`` calls this if it is asked to pin memory.
        """
        images = [image.pin_memory() for image in self.images]
        return replace(self, images=images, targets=self.targets.pin_memory())


class DetectionData(torch_data.Dataset[Sample]):
    """Resized samples of a split.

    Item ``(epoch, index)`` is image ``index`` with augmentation. Item ``index`` is the same image
    without augmentation. The augmentation of ``(epoch, index)`` depends on the two numbers and on
    the seed alone. It does not depend on the number of workers or on where a run was resumed.

    Args:
        dataset: the split.
        min_size: length in pixels of the shorter side after resizing.
        max_size: largest length in pixels of the longer side after resizing.
        augmentation: the random changes. None: items are never augmented.
        cache: True: keep the resized images in memory.
        seed: seed of the augmentation.
        max_pixels: largest number of pixels that an image may have.
        workers: number of processes that read the images of :func:`batches`. 0: none but this one.

    Example:
        >>> from postnms.data.scenes.generator import ScenesConfig, scenes_dataset
        >>> scenes = scenes_dataset(ScenesConfig(val=2, size=96), seed=0, split="val")
        >>> data = DetectionData(scenes, min_size=64, max_size=64)
        >>> len(data), data[0].image.shape
        (2, torch.Size([3, 64, 64]))
    """

    def __init__(
        self,
        dataset: Dataset,
        min_size: int,
        max_size: int,
        augmentation: AugmentationConfig | None = None,
        *,
        cache: bool = False,
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
        workers: int = 0,
    ) -> None:
        self.dataset = dataset
        self.min_size = min_size
        self.max_size = max_size
        self.augmentation = augmentation
        self.seed = seed
        self.max_pixels = max_pixels
        self.workers = workers
        self.cache: dict[tuple[int, float], Tensor] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.dataset.records)

    def only_turned(self) -> "DetectionData":
        """Return the same data, whose augmentation changes the orientation of images alone."""
        other = copy.copy(self)
        other.augmentation = None if self.augmentation is None else self.augmentation.turns
        return other

    @property
    def aspect_groups(self) -> list[int]:
        """The aspect group of each image: 0 if it is taller than wide, else 1.

        A training batch has images of one group only, which keeps the padding small.
        """
        sizes = sizes_of_records(self.dataset.records)
        return (sizes[:, 1] >= sizes[:, 0]).astype(int).tolist()

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        epoch, index = item if isinstance(item, tuple) else (None, item)
        record = self.dataset.records[index]
        augmentation = None if epoch is None else self.augmentation
        enlarged = 1.0 if augmentation is None else augmentation.largest_scale
        image = self._image(index, enlarged)
        # Rounding gives the two axes slightly different factors.
        factors = (image.shape[2] / record.width, image.shape[1] / record.height)
        factor = torch.tensor(factors, dtype=torch.float32, device="cpu")
        sample = Sample(
            image=image,
            boxes=torch.from_numpy(record.boxes) * factor.repeat(2),
            labels=torch.from_numpy(record.labels),
            crowd=torch.from_numpy(record.crowd),
            image_id=record.id,
            original_size=(record.height, record.width),
        )
        if epoch is None or augmentation is None:
            return sample
        generator = seeded_generator(self.seed, epoch, index)
        return augment(sample, augmentation, generator, (self.min_size, self.max_size))

    def _image(self, index: int, enlarged: float) -> Tensor:
        """Return the image (3, height, width), resized to ``enlarged`` times the limits.

        It is taken from the cache if it is there.
        """
        key = (index, enlarged)
        if self.cache is not None and key in self.cache:
            return self.cache[key]
        whole = self.dataset.records[index].load(self.max_pixels)
        limits = (round(side * enlarged) for side in (self.min_size, self.max_size))
        image = pil_to_tensor(resize(whole, *limits))
        if self.cache is not None:
            self.cache[key] = image
        return image


def collate(samples: Sequence[Sample]) -> Batch:
    """Return the samples as one batch, in their order.

    The objects of all images form one flat structure, see :class:`Targets`.
    """
    counts = torch.tensor([len(sample.labels) for sample in samples], device="cpu")
    targets = Targets(
        boxes=torch.cat([sample.boxes for sample in samples]),
        labels=torch.cat([sample.labels for sample in samples]),
        image=torch.arange(len(samples), device="cpu").repeat_interleave(counts),
        crowd=torch.cat([sample.crowd for sample in samples]),
        num_images=len(samples),
    )
    return Batch(
        [sample.image for sample in samples],
        targets,
        [sample.image_id for sample in samples],
        [sample.original_size for sample in samples],
    )


class TrainBatches(Sampler[list[tuple[int, int]]]):
    """Endless batches of items ``(epoch, index)`` of :class:`DetectionData`.

    Batch ``i`` depends on the arguments and on ``i`` alone. Each epoch is a random permutation of
    all images, cut into batches. A batch has images of one aspect group only. If the last batch
    of a group is not full, it is filled with the first images of the group's order. Every image
    therefore comes at least once in an epoch.

    Iteration yields batches ``start``, ``start + 1`` and so on, without end.

    Args:
        groups: aspect group of each image.
        batch_size: images of a batch, over all processes.
        seed: seed of the permutations.
        start: number of the first batch that is yielded.
        rank: number of this process. It gets images ``rank``, ``rank + world``, ... of a batch.
        world: number of processes.

    Raises:
        ValueError: ``groups`` is empty.

    Example:
        >>> order = TrainBatches([0, 0, 0, 1], batch_size=2, seed=0)
        >>> order.per_epoch
        3
        >>> sorted({index for batch in order.epoch(0) for _, index in batch})
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        groups: Sequence[int],
        batch_size: int,
        seed: int,
        start: int = 0,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.groups = np.asarray(groups)
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world = world
        if not len(self.groups):
            raise ValueError("groups: expected at least one image, got none")

    @property
    def per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return sum(
            -(-count // self.batch_size)
            for count in np.unique(self.groups, return_counts=True)[1].tolist()
        )

    def epoch(self, number: int) -> list[list[tuple[int, int]]]:
        """Return all batches of an epoch, each with the images of all processes."""
        random = np.random.default_rng((self.seed, number))
        batches = []
        for group in np.unique(self.groups):
            members = random.permutation(np.flatnonzero(self.groups == group))
            count = -(-len(members) // self.batch_size) * self.batch_size
            # np.resize repeats the members from the start until the last batch is full.
            batches += np.resize(members, count).reshape(-1, self.batch_size).tolist()
        # The batches are shuffled too, so that the groups alternate within the epoch.
        return [[(number, index) for index in batches[i]] for i in random.permutation(len(batches))]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        number, first = divmod(self.start, self.per_epoch)
        while True:
            for batch in self.epoch(number)[first:]:
                yield batch[self.rank :: self.world]
            number += 1
            first = 0


def seeded_generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new generator of random numbers that depends on the key alone.

    ``key`` is any count of integers that are at least 0, for example seed, epoch and index.
    """
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed) & (2**63 - 1))


def batches(
    data: DetectionData, indices: range, batch_size: int, *, pin_memory: bool = False
) -> Iterator[Batch]:
    """Yield batches of the given images of a split, in order and without augmentation.

    The last batch may be smaller than ``batch_size``. Batches are read ahead by ``data.workers``
    processes, if the images are many enough for that and are not kept in memory here. With
    ``pin_memory`` they are in page-locked memory, from where copies to a GPU need no wait.

    Raises UserError for an image that cannot be read.
    """
    parts = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    # What a worker keeps ends with it, so images that are kept are read by this process.
    workers = 0 if data.cache is not None else worth_starting(data.workers, len(indices))
    yield from load_ahead(partial(_batch_of, data), parts, workers, pin_memory=pin_memory)


def _batch_of(data: DetectionData, indices: range) -> Batch:
    return collate([data[index] for index in indices])
