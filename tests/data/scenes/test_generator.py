"""The built-in scenes: their objects, their annotations, and their files."""

import json

import numpy as np
import pytest
import torch

from postnms.boxes import pairwise_iou
from postnms.data.formats.coco import read_coco
from postnms.data.scenes import generator as scenes
from postnms.data.scenes.generator import (
    CATEGORIES,
    ScenesConfig,
    generate_scene,
    scenes_dataset,
    write_scenes,
)
from postnms.data.scenes.shapes import SHAPES, background, place
from postnms.errors import UserError

SMALL = ScenesConfig(train=5, val=2, size=96)


def test_a_scene_is_a_function_of_its_arguments():
    first, again = generate_scene(SMALL, 1, "train", 3), generate_scene(SMALL, 1, "train", 3)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    for other in ((2, "train", 3), (1, "val", 3), (1, "train", 4)):
        assert not np.array_equal(generate_scene(SMALL, *other)[0], first[0])


@pytest.mark.parametrize("index", range(6))
def test_boxes_are_the_visible_extent(index, monkeypatch):
    """Each object is painted again, and its pixels are where its box says."""
    canvases = []

    class Canvas(scenes._Canvas):
        def __init__(self, *args):
            super().__init__(*args)
            canvases.append(self)

    monkeypatch.setattr(scenes, "_Canvas", Canvas)
    _, boxes, labels, areas = generate_scene(SMALL, 0, "train", index)
    (canvas,) = canvases
    front = np.full((96, 96), -1)
    shares = np.zeros((len(canvas.shapes), 96, 96))
    for number, shape in enumerate(canvas.shapes):
        full = np.zeros((96, 96))
        full[shape.rows, shape.columns] = shape.cover
        shares *= 1 - full
        shares[number] = full
    front = shares > 0.5
    assert len(boxes) == len(labels) == len(canvas.shapes) > 0
    for number, (box, area) in enumerate(zip(boxes, areas, strict=True)):
        rows, columns = np.nonzero(front[number])
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert area == front[number].sum()
        whole = (canvas.shapes[number].cover > 0.5).sum()
        assert area >= SMALL.min_visible * whole


def test_boxes_lie_in_the_image_and_have_an_area():
    for index in range(20):
        _, boxes, labels, _ = generate_scene(SMALL, 5, "val", index)
        assert (boxes >= 0).all()
        assert (boxes <= 96).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert set(labels.tolist()) <= set(range(len(SHAPES)))


def test_scenes_are_crowded_as_told():
    def overlapped(crowding):
        shares = []
        for index in range(25):
            _, boxes, labels, _ = generate_scene(ScenesConfig(crowding=crowding), 0, "train", index)
            iou = pairwise_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).fill_diagonal_(0)
            iou[torch.from_numpy(labels)[:, None] != torch.from_numpy(labels)] = 0
            shares += (iou.amax(dim=1) > 0.3).tolist()
        return np.mean(shares)

    assert overlapped(0.0) < 0.15
    assert overlapped(1.0) > 0.35


@pytest.mark.parametrize("label", range(len(SHAPES)))
def test_shapes_are_anti_aliased_and_reach_their_radius(label):
    shape = place(label, (40.0, 40.0), 20.0, 80, np.random.default_rng(0))
    assert shape.cover.max() == 1
    assert ((shape.cover > 0.05) & (shape.cover < 0.95)).sum() > 20
    rows, columns = np.nonzero(shape.cover > 0.5)
    reach = np.hypot(
        rows + shape.rows.start + 0.5 - 40, columns + shape.columns.start + 0.5 - 40
    ).max()
    assert 16 < reach < 23


def test_a_disc_has_the_area_of_a_circle():
    shape = place(0, (40.3, 39.6), 20.0, 80, np.random.default_rng(0))
    assert shape.cover.sum() == pytest.approx(np.pi * 400, rel=0.005)


def test_backgrounds_are_smooth():
    ground = background(100, np.random.default_rng(0))
    assert ground.shape == (100, 100, 3)
    assert np.abs(np.diff(ground, axis=0)).max() < 0.05


def test_written_scenes_are_read_back(tmp_path):
    done = []
    counts = write_scenes(SMALL, 4, tmp_path, done.append)
    assert len(done) == 7
    for split in ("train", "val"):
        made = scenes_dataset(SMALL, 4, split)
        read = read_coco(tmp_path / f"instances_{split}.json", tmp_path / "images")
        assert read.categories == made.categories == CATEGORIES
        assert counts[split] == len(read.truth.annotations)
        for mine, theirs in zip(read.records, made.records, strict=True):
            assert np.array_equal(mine.boxes, theirs.boxes)
            assert np.array_equal(mine.labels, theirs.labels)
            assert np.array_equal(np.asarray(mine.load()), theirs.pixels)
        assert read.truth.annotations == made.truth.annotations
    about = json.loads((tmp_path / "instances_val.json").read_text())["info"]
    assert (about["seed"], about["config"]["size"]) == (4, 96)


def test_settings_that_make_no_sense_are_named():
    with pytest.raises(
        UserError, match=r"scenes: .*objects: expected the smaller value first, got 9 and 3"
    ):
        ScenesConfig.parse({"objects": [9, 3]}, "scenes")
    with pytest.raises(UserError, match=r"scenes\.crowding: .*less than or equal to 1, got 2"):
        ScenesConfig.parse({"crowding": 2}, "scenes")
