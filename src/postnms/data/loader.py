"""Samples, batches, and an endless order of training batches that is a pure function of seed and position."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms.v2.functional import pil_to_tensor

from postnms.data.dataset import CocoDataset
from postnms.data.transforms import AugmentationConfig, Sample, augment, resize
from postnms.structures import Targets


@dataclass(frozen=True)
class Batch:
    """Images of one training or test step; the detector pads them."""

    images: list[Tensor]
    """(3, height, width) uint8 each."""
    targets: Targets
    """In pixels of ``images``."""
    image_ids: list[int]
    original_sizes: list[tuple[int, int]]
    """(height, width) of each image before resizing."""

    @property
    def scales(self) -> list[tuple[float, float]]:
        """(x, y) factors of each image that lead back to its pixels before resizing."""
        pairs = zip(self.images, self.original_sizes, strict=True)
        return [
            (width / image.shape[2], height / image.shape[1]) for image, (height, width) in pairs
        ]


class DetectionData(Dataset[Sample]):
    """Resized samples of a split; item ``(epoch, index)`` is augmented, item ``index`` is not.

    The augmentation of (epoch, index) depends on nothing but these and the seed: not on workers, nor on resuming.
    ``cache``: keep resized images in memory.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        min_size: int,
        max_size: int,
        augmentation: AugmentationConfig | None = None,
        *,
        cache: bool = False,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.min_size, self.max_size = min_size, max_size
        self.augmentation, self.seed = augmentation, seed
        self.cache: dict[int, Tensor] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.dataset.records)

    @property
    def aspect_groups(self) -> list[int]:
        """Of each image: 0 if it is taller than wide, else 1; batches are of one group, so they need less padding."""
        return [int(record.width >= record.height) for record in self.dataset.records]

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        epoch, index = item if isinstance(item, tuple) else (None, item)
        record = self.dataset.records[index]
        image = self._image(index)
        factor = torch.tensor([image.shape[2] / record.width, image.shape[1] / record.height])
        sample = Sample(
            image=image,
            boxes=torch.from_numpy(record.boxes) * factor.repeat(2),
            labels=torch.from_numpy(record.labels),
            crowd=torch.from_numpy(record.crowd),
            image_id=record.id,
            original_size=(record.height, record.width),
        )
        if epoch is None or self.augmentation is None:
            return sample
        return augment(sample, self.augmentation, seeded_generator(self.seed, epoch, index))

    def _image(self, index: int) -> Tensor:
        if self.cache is not None and index in self.cache:
            return self.cache[index]
        image = pil_to_tensor(
            resize(self.dataset.records[index].load(), self.min_size, self.max_size)
        )
        if self.cache is not None:
            self.cache[index] = image
        return image


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples -> a batch with flat targets."""
    counts = torch.tensor([len(sample.labels) for sample in samples])
    targets = Targets(
        boxes=torch.cat([sample.boxes for sample in samples]),
        labels=torch.cat([sample.labels for sample in samples]),
        image=torch.arange(len(samples)).repeat_interleave(counts),
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
    """Endless batches of (epoch, index); batch ``i`` is a pure function of the arguments and ``i``.

    Each epoch is a permutation cut into batches of one aspect group each; a group's rest that fills no batch is
    filled up with images of that group from the start of its order, so every image comes at least once an epoch.
    Process ``rank`` of ``world`` gets its slice of every batch. Yields batches ``start``, ``start + 1``, ...
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
        self.batch_size, self.seed, self.start, self.rank, self.world = (
            batch_size,
            seed,
            start,
            rank,
            world,
        )
        if not len(self.groups):
            raise ValueError("groups: expected at least one image, got none")

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch."""
        return sum(
            -(-count // self.batch_size)
            for count in np.unique(self.groups, return_counts=True)[1].tolist()
        )

    def epoch(self, number: int) -> list[list[tuple[int, int]]]:
        """All batches of an epoch, whole."""
        random = np.random.default_rng((self.seed, number))
        batches = []
        for group in np.unique(self.groups):
            members = random.permutation(np.flatnonzero(self.groups == group))
            count = -(-len(members) // self.batch_size) * self.batch_size
            batches += np.resize(members, count).reshape(-1, self.batch_size).tolist()
        return [[(number, index) for index in batches[i]] for i in random.permutation(len(batches))]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        number, first = divmod(self.start, self.per_epoch)
        while True:
            for batch in self.epoch(number)[first:]:
                yield batch[self.rank :: self.world]
            number, first = number + 1, 0


def seeded_generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of random numbers that is a pure function of the key."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed) & (2**63 - 1))


def batches(data: DetectionData, indices: range, batch_size: int) -> Iterator[Batch]:
    """The given images of a split, in order."""
    for start in range(0, len(indices), batch_size):
        yield collate([data[index] for index in indices[start : start + batch_size]])
