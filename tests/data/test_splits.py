"""The splits of a run, from a data folder or from the built-in scenes."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from postnms.data.config import DataConfig
from postnms.data.dataset import Category
from postnms.data.digest import digest_of
from postnms.data.scenes.generator import (
    CATEGORIES,
    ScenesConfig,
    scenes_dataset,
    write_scenes,
)
from postnms.data.splits import find_truth, open_dataset, open_splits, open_val
from postnms.data.transforms import AugmentationConfig
from postnms.errors import UserError

SCENES = ScenesConfig(train=3, val=2, size=64)
IN_MEMORY = DataConfig(scenes=SCENES, augmentation=AugmentationConfig(vertical_flip=1), cache=True)
ON_DISK = DataConfig()


@pytest.fixture
def folder(tmp_path):
    """Write the scenes of seed 5 as a data folder."""
    write_scenes(SCENES, 5, tmp_path)
    return tmp_path


def test_scenes_and_their_folder_are_the_same_splits(folder):
    made = open_splits(IN_MEMORY, None, (48, 48), 5)
    read = open_splits(ON_DISK, folder, (48, 48), 5)
    assert (made.folder, read.folder) == (None, folder)
    for mine, theirs in ((made.train, read.train), (made.val, read.val)):
        assert len(mine) == len(theirs)
        for index in range(len(mine)):
            assert mine[index].image.shape == (3, 48, 48)
            assert torch.equal(mine[index].image, theirs[index].image)
            assert torch.equal(mine[index].boxes, theirs[index].boxes)


def test_the_training_split_alone_is_augmented():
    splits = open_splits(IN_MEMORY, None, (48, 48), 0)
    assert (splits.train.augmentation, splits.val.augmentation) == (IN_MEMORY.augmentation, None)
    assert not torch.equal(splits.train[0, 0].image, splits.train[0].image)
    assert torch.equal(splits.val[0, 0].image, splits.val[0].image)
    assert splits.train.cache is not None


def test_seeds_make_other_scenes():
    images = [open_splits(IN_MEMORY, None, (48, 48), seed).val[0].image for seed in (0, 0, 1)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_the_validation_split_takes_the_labels_of_the_training_split(folder):
    path = folder / "instances_val.json"
    content = json.loads(path.read_text())
    kept = content["categories"][1:]
    ids = [category["id"] for category in kept]
    entries = [entry for entry in content["annotations"] if entry["category_id"] in ids]
    path.write_text(json.dumps({**content, "categories": kept, "annotations": entries}))
    splits = open_splits(ON_DISK, folder, (48, 48))
    assert splits.val.dataset.categories == splits.train.dataset.categories == CATEGORIES
    labels = [int(label) for index in range(2) for label in splits.val[index].labels]
    assert sorted(labels) == sorted(entry["category_id"] - 1 for entry in entries)
    with pytest.raises(UserError, match=r"val\.json: categories: expected a subset of"):
        open_val(ON_DISK, folder, (Category(1, "other"),), (48, 48))


def test_without_a_folder_there_must_be_scenes():
    with pytest.raises(
        UserError, match=r"^data: the recipe has no built-in data; name a data folder"
    ):
        open_dataset(ON_DISK, None, "train")


def test_files_that_are_named_need_no_known_layout(folder):
    """Settings of older recipes name all files."""
    for split in ("train", "val"):
        (folder / f"instances_{split}.json").rename(folder / f"{split} labels.json")
    (folder / "images").rename(folder / "mine")
    named = {f"{s}_annotations": f"{s} labels.json" for s in ("train", "val")}
    config = DataConfig(**named, train_images="mine", val_images="mine")
    splits = open_splits(config, folder, (48, 48))
    assert (len(splits.train), len(splits.val)) == (3, 2)
    (folder / "mine").rename(folder / "images")
    assert len(open_splits(DataConfig(**named), folder, (48, 48)).train) == 3


def test_one_split_may_be_named_and_the_other_recognised(folder):
    (folder / "instances_val.json").rename(folder / "labels.json")
    splits = open_splits(DataConfig(val_annotations="labels.json"), folder, (48, 48))
    assert (len(splits.train), len(splits.val)) == (3, 2)
    assert splits.found.describe() == "COCO: train 3, val 2 images, 5 classes"


def test_a_file_that_is_named_alone_needs_no_known_layout(folder):
    """So Label Studio exports one file and a folder of images."""
    (folder / "instances_train.json").rename(folder / "result.json")
    (folder / "instances_val.json").unlink()
    config = DataConfig(train_annotations="result.json", val_fraction=0.4)
    splits = open_splits(config, folder, (48, 48))
    assert (len(splits.train), len(splits.val)) == (1, 2)
    config = DataConfig(train_annotations="result.json")
    with pytest.raises(UserError, match=r"has no split val, only train; set a share of train"):
        open_splits(config, folder, (48, 48))
    with pytest.raises(UserError, match=r"no known layout of a data set"):
        open_splits(DataConfig(), folder, (48, 48))


def test_nothing_is_set_aside_where_there_are_no_training_images(folder):
    """A run that set images aside is measured on a folder with a test split alone."""
    (folder / "instances_train.json").unlink()
    (folder / "instances_val.json").rename(folder / "instances_test.json")
    config = DataConfig(val_fraction=0.2, tuning_fraction=0.2)
    assert len(open_dataset(config, folder, "test").records) == 2
    with pytest.raises(UserError, match=r"COCO: has no split val, only test$"):
        open_dataset(config, folder, "val")
    with pytest.raises(UserError, match=r"COCO: has no split train, only test; name COCO files"):
        open_splits(config, folder, (48, 48))


def test_a_truth_is_that_of_a_file_or_of_a_split(folder):
    file = folder / "instances_train.json"
    assert len(find_truth(file).images) == len(find_truth(folder, "train").images) == 3
    assert len(find_truth(folder).images) == 2
    for split in (None, "val"):
        with pytest.raises(UserError, match=r"none\.json: no such annotation file"):
            find_truth(folder / "none.json", split)
    with pytest.raises(UserError, match=r"^split: expected a data folder .*got val of .*_train\.j"):
        find_truth(file, "val")


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("field", ["annotations", "images"])
def test_a_split_without_images_or_annotations_is_named(folder, split, field):
    path = folder / f"instances_{split}.json"
    content = json.loads(path.read_text())
    del content["annotations"]
    if field == "images":
        content |= {"images": [], "annotations": []}
    path.write_text(json.dumps(content))
    message = {
        "images": "images: expected at least one, got none",
        "annotations": "annotations: expected some, got none",
    }[field]
    with pytest.raises(UserError, match=rf"instances_{split}\.json: {message}"):
        open_splits(ON_DISK, folder, (48, 48))


@pytest.fixture
def folder_with_empty_images(folder):
    """Take the objects of image 1 of both splits, and make those of image 2 crowd regions."""
    for split in ("train", "val"):
        path = folder / f"instances_{split}.json"
        content = json.loads(path.read_text())
        first, second = (entry["id"] for entry in content["images"][:2])
        content["annotations"] = [
            {**entry, "iscrowd": int(entry["image_id"] == second)}
            for entry in content["annotations"]
            if entry["image_id"] != first
        ]
        path.write_text(json.dumps(content))
    return folder


def test_training_images_without_objects_are_left_out_by_a_field(folder_with_empty_images):
    every = open_splits(ON_DISK, folder_with_empty_images, (48, 48))
    some = open_splits(DataConfig(images_without_objects=False), folder_with_empty_images, (48, 48))
    assert (len(every.train), len(some.train)) == (3, 1)
    assert len(every.val) == len(some.val) == 2
    last, only = every.train[2], some.train[0]
    assert (last.image_id, last.original_size) == (only.image_id, only.original_size)
    assert torch.equal(last.image, only.image)
    assert torch.equal(last.boxes, only.boxes)
    assert torch.equal(last.labels, only.labels)
    assert some.train.dataset.truth.annotations == every.train.dataset.truth.annotations
    digests = [digest_of(splits.train.dataset, splits.val.dataset) for splits in (every, some)]
    assert digests[0] != digests[1]


def test_records_in_memory_are_left_out_too():
    made = scenes_dataset(SCENES, 0, "train")
    first, *others = made.records
    bare = dataclasses.replace(
        first, boxes=first.boxes[:0], labels=first.labels[:0], crowd=first.crowd[:0]
    )
    crowd = dataclasses.replace(others[0], crowd=np.ones_like(others[0].crowd))
    left = dataclasses.replace(made, records=(bare, crowd, others[1])).with_objects()
    assert [record.id for record in left.records] == [others[1].id]


def test_no_image_with_an_object(folder):
    path = folder / "instances_train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    with pytest.raises(UserError, match=r"expected an image with an object, got 3 without"):
        open_splits(DataConfig(images_without_objects=False), folder, (48, 48))
    assert len(open_splits(ON_DISK, folder, (48, 48)).train) == 3
