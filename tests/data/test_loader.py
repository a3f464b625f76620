"""Samples and batches of a split, and the endless order of the training batches."""

import dataclasses
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data._utils.pin_memory import pin_memory as pin_of_the_loader

from postnms.data import workers
from postnms.data.dataset import Category, Dataset, Record, Truth
from postnms.data.loader import DetectionData, TrainBatches, batches, collate
from postnms.data.transforms import AugmentationConfig
from postnms.errors import UserError


def dataset(*sizes):
    records = []
    for number, (height, width) in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        boxes = np.array([[0, 0, width / 2, height]], np.float32).repeat(number, 0)
        labels, crowd = np.zeros(number, np.int64), np.zeros(number, np.bool_)
        records.append(
            Record(100 + number, Path(f"{number}.png"), height, width, boxes, labels, crowd, pixels)
        )
    return Dataset(Truth((Category(1, "a"),), {}, "test"), tuple(records))


DATA = dataset((40, 60), (80, 40), (30, 30))


def test_boxes_are_scaled_with_the_image():
    sample = DetectionData(DATA, 20, 100)[1]
    assert sample.image.shape == (3, 40, 20)
    assert sample.image.dtype == torch.uint8
    assert sample.boxes.tolist() == [[0, 0, 10, 40]]
    assert sample.original_size == (80, 40)


def test_collated_targets_say_which_image_they_are_of():
    data = DetectionData(DATA, 20, 100)
    batch = collate([data[2], data[0], data[1]])
    assert batch.image_ids == [102, 100, 101]
    assert batch.targets.image.tolist() == [0, 0, 2]
    assert batch.targets.num_images == 3
    assert batch.original_sizes == [(30, 30), (40, 60), (80, 40)]


def test_factors_of_a_batch_lead_back_to_the_original_images():
    data = DetectionData(DATA, 20, 100)
    batch = collate([data[0], data[1]])  # 30 x 20 and 20 x 40 pixels
    assert batch.to_original.tolist() == [[2, 2], [2, 2]]
    assert batch.to_original.dtype == torch.float64
    uneven = collate([DetectionData(dataset((33, 100)), 10, 100)[0]])
    assert uneven.images[0].shape == (3, 10, 30)
    assert uneven.to_original.tolist() == pytest.approx(np.array([[100 / 30, 3.3]]))


def test_batches_of_a_split_come_in_order_and_the_last_is_smaller():
    data = DetectionData(DATA, 20, 100)
    assert [batch.image_ids for batch in batches(data, range(3), 2)] == [[100, 101], [102]]
    assert [batch.image_ids for batch in batches(data, range(1, 3), 1)] == [[101], [102]]


@pytest.fixture
def few_are_enough(monkeypatch):
    """Any number of images is worth the start of workers."""
    monkeypatch.setattr(workers, "IMAGES_A_WORKER", 1)


@pytest.mark.parametrize("count", [1, 2])
def test_workers_give_the_same_batches_in_the_same_order(few_are_enough, count):
    plain = list(batches(DetectionData(DATA, 20, 100), range(3), 2))
    before = torch.random.get_rng_state()
    found = list(batches(DetectionData(DATA, 20, 100, workers=count), range(3), 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [batch.image_ids for batch in found] == [[100, 101], [102]]
    for mine, theirs in zip(found, plain, strict=True):
        pairs = zip(mine.images, theirs.images, strict=True)
        assert all(torch.equal(*pair) for pair in pairs)
        assert torch.equal(mine.targets.boxes, theirs.targets.boxes)
        assert mine.original_sizes == theirs.original_sizes


def test_batches_are_made_in_other_processes_if_it_pays(few_are_enough, monkeypatch):
    def processes(**options):
        made = [batch.image_ids for batch in batches(Numbered(DATA, 20, 100, **options), ONE, 1)]
        return [pid == os.getpid() for (pid,) in made]

    assert processes(workers=1) == [False]
    assert processes(workers=0) == [True]
    assert processes(workers=1, cache=True) == [True]
    monkeypatch.setattr(workers, "IMAGES_A_WORKER", 2)
    assert processes(workers=1) == [True]


ONE = range(1)


class Numbered(DetectionData):
    """Samples whose id is the number of the process that read them."""

    def __getitem__(self, item):
        return dataclasses.replace(super().__getitem__(item), image_id=os.getpid())


def test_the_message_of_an_image_that_cannot_be_read_is_the_same_with_workers(few_are_enough):
    bare = dataclasses.replace(DATA.records[0], pixels=None)
    data = Dataset(DATA.truth, (bare, *DATA.records[1:]))
    for count in (0, 1):
        with pytest.raises(UserError, match=r"^0\.png: no such image$"):
            list(batches(DetectionData(data, 20, 100, workers=count), range(3), 2))


def test_batches_are_pinned_on_request(monkeypatch):
    asked = []

    def loader(data, count, **options):
        asked.append(options["pin_memory"])
        return [data[index] for index in range(len(data))]

    monkeypatch.setattr(workers, "new_loader", loader)
    found = list(batches(DetectionData(DATA, 20, 100), range(3), 2, pin_memory=True))
    assert asked == [True]
    assert [batch.image_ids for batch in found] == [[100, 101], [102]]


def test_the_cache_gives_the_same_and_reads_once(monkeypatch):
    plain, cached = DetectionData(DATA, 20, 100), DetectionData(DATA, 20, 100, cache=True)
    for _ in range(2):
        for index in range(3):
            assert torch.equal(plain[index].image, cached[index].image)
    reads = []
    original = Record.load
    monkeypatch.setattr(
        Record, "load", lambda record, limit: reads.append(record.id) or original(record, limit)
    )
    assert cached[0].image is not None
    assert plain[0].image is not None
    assert reads == [100]


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    config = AugmentationConfig(vertical_flip=0.5, brightness=0.5)

    def images(seed, items):
        data = DetectionData(DATA, 20, 100, config, cache=True, seed=seed)
        return {item: data[item].image for item in items}

    items = [(epoch, index) for epoch in range(4) for index in range(3)]
    first, backwards = images(0, items), images(0, items[::-1])
    assert all(torch.equal(first[item], backwards[item]) for item in items)
    assert not all(torch.equal(first[item], images(1, items)[item]) for item in items)
    assert not torch.equal(first[0, 2], first[1, 2])
    assert torch.equal(
        DetectionData(DATA, 20, 100, config)[2].image, DetectionData(DATA, 20, 100)[2].image
    )


def test_aspect_groups():
    assert DetectionData(DATA, 20, 100).aspect_groups == [1, 0, 1]


group_lists = st.lists(st.integers(0, 1), min_size=1, max_size=25)


@settings(deadline=None)
@given(group_lists, st.integers(1, 6), st.integers(0, 40))
def test_any_batch_is_the_same_wherever_one_begins(groups, size, start):
    whole = list(islice(TrainBatches(groups, size, seed=3), start + 5))
    assert list(islice(TrainBatches(groups, size, seed=3, start=start), 5)) == whole[start:]


@settings(deadline=None)
@given(group_lists, st.integers(1, 6))
def test_an_epoch_holds_every_image_in_batches_of_one_group(groups, size):
    order = TrainBatches(groups, size, seed=0)
    batches = order.epoch(2)
    assert len(batches) == order.per_epoch
    assert all(len(batch) == size for batch in batches)
    assert all(len({groups[index] for _, index in batch}) == 1 for batch in batches)
    assert {index for batch in batches for _, index in batch} == set(range(len(groups)))
    assert {epoch for batch in batches for epoch, _ in batch} == {2}


def test_every_image_comes_once_where_the_sizes_divide():
    batches = TrainBatches([0] * 8 + [1] * 4, 4, seed=0).epoch(0)
    assert sorted(index for batch in batches for _, index in batch) == list(range(12))


def test_epochs_and_seeds_differ():
    epochs = [
        TrainBatches([0] * 50, 5, seed=seed).epoch(number)
        for seed, number in ((0, 0), (0, 1), (1, 0))
    ]
    orders = [[index for batch in batches for _, index in batch] for batches in epochs]
    assert len({tuple(order) for order in orders}) == 3


@settings(deadline=None)
@given(group_lists, st.integers(1, 3))
def test_processes_share_each_batch(groups, each):
    whole = list(islice(TrainBatches(groups, 2 * each, seed=1), 6))
    parts = [
        list(islice(TrainBatches(groups, 2 * each, seed=1, rank=rank, world=2), 6))
        for rank in (0, 1)
    ]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert len(first) == len(second) == each
        assert sorted(first + second) == sorted(batch)


def test_no_image_at_all():
    with pytest.raises(ValueError, match="groups: expected at least one image"):
        TrainBatches([], 2, seed=0)


def test_the_pinning_of_torchs_loader_reaches_every_tensor_of_a_batch(monkeypatch):
    """Memory is pinned only where there is a GPU, so here a copy stands for pinned memory."""
    pinned = []

    def pin(tensor):
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    data = DetectionData(DATA, 20, 100)
    batch = collate([data[0], data[1], data[2]])
    found = pin_of_the_loader(batch)
    columns = ("boxes", "labels", "image", "crowd")
    tensors = [*found.images, *(getattr(found.targets, name) for name in columns)]
    assert {id(tensor) for tensor in tensors} == {id(tensor) for tensor in pinned}
    given = [*batch.images, *(getattr(batch.targets, name) for name in columns)]
    assert all(torch.equal(*pair) for pair in zip(tensors, given, strict=True))
    assert (found.image_ids, found.original_sizes) == (batch.image_ids, batch.original_sizes)
    assert found.targets.num_images == 3


def test_batches_do_not_depend_on_the_default_dtype_and_device():
    data = DetectionData(DATA, 20, 100)
    expected = collate([data[0], data[1]])
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = collate([data[0], data[1]])
            factors = found.to_original
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(factors, expected.to_original)
    for name in ("boxes", "labels", "image", "crowd"):
        assert torch.equal(getattr(found.targets, name), getattr(expected.targets, name))
