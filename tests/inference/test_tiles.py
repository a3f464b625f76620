"""Tiles cover an image, and no object is doubled or lost at their borders."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torch import nn

from postnms.data.dataset import Category, Truth
from postnms.detectors import ImageBatch, Selection, attach
from postnms.errors import UserError
from postnms.evaluation.metrics import coco_metrics
from postnms.evaluation.results import to_results
from postnms.inference.tiles import Tiling, detect_tiled, join
from postnms.inference.whole_images import detect_images
from postnms.structures import Candidates, Detections, Level
from postnms.suppression.registry import get_suppressor


@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 150), st.sampled_from([0, 0.2, 0.5])
)
@settings(deadline=None)
def test_tiles_cover_the_image_and_overlap_enough(width, height, tile, overlap):
    tiles = Tiling(tile, overlap).tiles(width, height)
    for axis, length in ((0, width), (1, height)):
        spans = sorted({(box[axis], box[axis + 2]) for box in tiles})
        assert all(end - start == min(tile, length) for start, end in spans)
        assert (spans[0][0], spans[-1][1]) == (0, length)
        for before, after in itertools.pairwise(spans):
            assert before[1] - after[0] >= int(tile * overlap)
            assert after[0] > before[0]
    assert tiles == sorted(tiles, key=lambda box: (box[1], box[0]))
    assert len(set(tiles)) == len(tiles)


def test_tiles_by_hand():
    assert Tiling(100, 0.2).tiles(100, 60) == [(0, 0, 100, 60)]
    assert Tiling(100, 0.2).tiles(181, 100) == [
        (0, 0, 100, 100),
        (80, 0, 180, 100),
        (81, 0, 181, 100),
    ]


def detections(*rows):
    """Rows are (x1, y1, x2, y2, score, label)."""
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 6)
    zeros = torch.zeros(len(table), dtype=torch.int64)
    return Detections(
        table[:, :4], table[:, 4], table[:, 5].long(), zeros, zeros.clone(), num_images=1
    )


PAIR = [(0, 0, 100, 100), (80, 0, 180, 100)]
"""Two tiles that share the strip from 80 to 100."""


def joined(left, right, whole=(), suppressor="nms"):
    tiling = Tiling(100, 0.2, suppressor)
    found = join(PAIR, [detections(*left), detections(*right)], detections(*whole), tiling)
    return [tuple(box) for box in found.boxes.tolist()]


def test_an_object_in_the_strip_is_given_once():
    """The left tile sees 15 of its 30 pixels, with the better score; the right tile all of it."""
    assert joined([(85, 10, 100, 40, 0.9, 0)], [(85, 10, 115, 40, 0.6, 0)]) == [(85, 10, 115, 40)]
    # The neighbour sees more, however little it scores.
    assert joined([(85, 10, 100, 40, 0.9, 0)], [(85, 10, 115, 40, 0.3, 0)]) == [(85, 10, 115, 40)]
    assert joined([(65, 10, 95, 40, 0.6, 0)], [(80, 10, 95, 40, 0.9, 0)]) == [(65, 10, 95, 40)]
    whole = (84, 10, 96, 40, 0.9, 0)
    assert joined([whole], [(84, 10, 96, 41, 0.8, 0)]) == [whole[:4]]


def test_neighbours_of_one_class_are_kept_apart_from_pieces():
    """A small object in the strip lies in the box of a large one. It is no piece: both stay."""
    small, large = (86, 10, 92, 20, 0.8, 0), (81, 5, 130, 60, 0.7, 0)
    assert set(joined([small], [small, large])) == {small[:4], large[:4]}


def test_a_box_that_fills_the_strip_is_not_lost():
    """It reaches the borders of both tiles, so only one of them may leave it to the other."""
    for box in ((80, 10, 100, 40), (81, 10, 100, 40), (80, 10, 99, 40)):
        assert len(joined([(*box, 0.9, 0)], [(*box, 0.8, 0)])) == 1


def test_a_large_object_comes_from_the_whole_image_and_its_pieces_go():
    left, right = (30, 10, 100, 60, 0.9, 0), (80, 10, 140, 60, 0.95, 0)
    whole = (30, 10, 140, 60, 0.6, 0)
    assert joined([left], [right], [whole]) == [whole[:4]]
    # Not if it is of another class, or scores less than half as much: NMS then drops it.
    of_another = (*whole[:5], 1)
    assert set(joined([left], [right], [of_another])) == {left[:4], right[:4], whole[:4]}
    assert set(joined([left], [right], [(*whole[:4], 0.4, 0)])) == {left[:4], right[:4]}


def test_small_objects_come_from_the_tiles_alone():
    assert joined([], [], [(10, 10, 30, 30, 0.9, 0)]) == []
    assert joined([], [], [(10, 10, 31, 30, 0.9, 0)]) == [(10, 10, 31, 30)]


def test_the_border_of_the_image_cuts_nothing():
    at_the_edge = [(0, 0, 20, 30, 0.9, 0)]
    assert joined(at_the_edge, [], [(0, 0, 60, 60, 0.9, 0)])[0] == (0, 0, 20, 30)


def test_any_suppressor_joins_and_its_limit_is_only_that_of_the_user():
    many = [(x, y, x + 3, y + 3, 0.5, 0) for x in range(5, 70, 5) for y in range(5, 95, 5)]
    assert len(joined(many, [])) == len(many) > 200
    assert len(joined(many, [], suppressor="nms:max_detections=7")) == 7
    assert len(joined(many, [], suppressor=get_suppressor("nms"))) == 100
    twice = [(83, 10, 96, 40, 0.9, 0)], [(84, 10, 97, 40, 0.8, 0)]
    assert len(joined(*twice)) == 1
    assert len(joined(*twice, suppressor="soft_nms_linear")) == 2
    [merged] = joined(*twice, suppressor="wbf")
    assert 83 < merged[0] < 84
    alone = [(5, 10, 15, 40, 0.3, 0)]
    assert len(joined(alone, [], suppressor="nms:score=0.4")) == 0


def test_what_one_tile_gives_together_stays_together():
    """The stage may move kept boxes onto one another, and NMS would drop one of them."""
    close = [(30, 10, 60, 40, 0.9, 0), (35, 10, 65, 40, 0.8, 0)]
    assert set(joined(close, [])) == {box[:4] for box in close}
    # A box of another tile, or of another class in it, on which class-agnostic NMS acts alone.
    whole = (30, 10, 62, 40, 0.95, 1)
    assert len(joined(close, [], [whole])) == 3
    assert joined(close, [], [whole], suppressor="nms_agnostic") == [whole[:4]]


def test_numbers_of_numpy_count_as_those_of_python():
    """A byte holds the side of the tile, but not the corners of the tiles."""
    tiling = Tiling(np.uint8(200), np.float32(0.25))
    assert tiling.tiles(900, 90) == Tiling(200, 0.25).tiles(900, 90)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "^tile: expected a whole number of pixels, got 0"),
        ((64.0,), "^tile: expected a whole number"),
        ((64, 1.0), "^overlap: expected a share from 0 to below 1, got 1.0"),
        ((64, "0.2"), "^overlap: "),
        ((64, 0.2, "nmss"), "^suppressor: no 'nmss'"),
    ],
)
def test_wrong_tilings_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Tiling(*arguments)


class Squares(nn.Module):
    """Finds bright shapes on black with a side of at least 4 pixels, as their bounding boxes."""

    nms_threshold, max_detections, num_classes = 0.5, 100, 1

    def __init__(self):
        super().__init__()
        self.levels = {"map": Level(3, 8)}
        self.unused = nn.Parameter(torch.zeros(1))

    def prepare(self, images):
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        return ImageBatch(torch.stack([image.float() / 255 for image in images]), sizes, sizes)

    def features(self, images):
        return {"map": images.pixels}

    def candidates(self, features, images, targets=None, selection=Selection()):
        boxes, image = [], []
        for index, pixels in enumerate(features["map"]):
            for box in shapes(pixels.amax(dim=0) > 0.5):
                boxes.append(box)
                image.append(index)
        table = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
        area = (table[:, 2:] - table[:, :2]).prod(dim=1)
        column = torch.tensor(image, dtype=torch.int64)
        rows = torch.arange(len(table))
        scores = area / (area + 100)
        found = Candidates(table, scores, rows * 0, column, rows, num_images=len(images.sizes))
        return found, {}


def shapes(bright):
    """The bounding boxes of what is connected in a mask, by flooding."""
    left = {tuple(place) for place in bright.nonzero().tolist()}
    while left:
        todo, seen = [left.pop()], []
        while todo:
            y, x = todo.pop()
            seen.append((y, x))
            for place in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if place in left:
                    left.remove(place)
                    todo.append(place)
        rows, columns = [y for y, _ in seen], [x for _, x in seen]
        box = (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
        if min(box[2] - box[0], box[3] - box[1]) >= 4:
            yield box


def scene(*boxes):
    """A black image of 100 by 100 pixels with bright shapes."""
    image = Image.new("RGB", (100, 100))
    for x1, y1, x2, y2 in boxes:
        ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), "white")
    return image


SCENES = [
    [(5, 5, 13, 12), (40, 60, 52, 70), (80, 70, 100, 95)],
    [(0, 20, 12, 40), (50, 40, 57, 60), (70, 5, 80, 15)],
    [(10, 10, 20, 22), (30, 88, 42, 98), (85, 40, 97, 60)],
    [(2, 50, 14, 61), (60, 60, 95, 97), (30, 0, 41, 9)],
]


def mosaic():
    """Four scenes as one image, and its truth: an object lies across two of them."""
    big, boxes = Image.new("RGB", (200, 200)), []
    for index, objects in enumerate(SCENES):
        corner = (100 * (index % 2), 100 * (index // 2))
        big.paste(scene(*objects), corner)
        boxes += [np.add(box, corner * 2).tolist() for box in objects]
    ImageDraw.Draw(big).rectangle((60, 95, 69, 109), "white")
    return big, [*boxes, [60, 95, 70, 110]]


def average_precision(found, boxes):
    entries = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        for i, (x1, y1, x2, y2) in enumerate(boxes, 1)
    ]
    named = [{"id": 1, "name": "shape"}]
    content = {"images": [{"id": 1}], "annotations": entries, "categories": named}
    results = to_results(found, [1], torch.ones(1, 2), [1])
    return coco_metrics(Truth((Category(1, "shape"),), content, "mosaic"), results)["AP"]


def test_a_mosaic_of_scenes_is_read_better_in_tiles():
    """The detector sees 64 pixels a side: small objects vanish in the whole image, not in tiles."""
    detector = attach(Squares(), None).eval()
    image, boxes = mosaic()
    plain = detect_images(detector, [image], (64, 64))[0]["nms"]
    for tile, overlap in ((64, 0.5), (100, 0.3), (90, 0.4)):
        for batch_size in (1, 5):
            tiling = Tiling(tile, overlap)
            tiled = detect_tiled(detector, image, (64, 64), tiling, batch_size)["nms"]
            assert len(tiled.scores) == len(boxes), (tile, tiled.boxes)
            assert average_precision(tiled, boxes) > average_precision(plain, boxes) + 20
    exact = detect_tiled(detector, image, (64, 64), Tiling(64, 0.5))["nms"]
    assert average_precision(exact, boxes) == pytest.approx(100)


def test_an_image_that_fits_is_not_cut():
    detector = attach(Squares(), None).eval()
    image, _ = mosaic()
    plain = detect_images(detector, [image], (64, 64))[0]["nms"]
    tiled = detect_tiled(detector, image, (64, 64), Tiling(200))["nms"]
    assert torch.equal(plain.boxes, tiled.boxes)
