"""Boxes drawn on images, and images side by side."""

import numpy as np
from PIL import Image, ImageColor

from postnms.drawing.boxes import PALETTE, SHORTEST_SIDE, THIN, draw_boxes, side_by_side


def pixels(image):
    return np.asarray(image)


def test_a_box_is_drawn_in_its_place_and_colour():
    image = Image.new("RGB", (600, 500), "black")
    drawn = pixels(draw_boxes(image, [(100, 200, 300, 400)], [1], ["a", "b"]))
    ys, xs = np.nonzero((drawn == ImageColor.getrgb(PALETTE[1])).all(axis=2))
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (100, 200, 300, 400)
    assert drawn[300, 200].tolist() == [0, 0, 0]
    assert pixels(image).max() == 0


def test_low_scores_are_left_out_and_the_best_is_on_top():
    image = Image.new("RGB", (500, 500), "black")
    boxes, labels = [(10, 50, 400, 400)] * 2 + [(20, 430, 60, 480)], [0, 1, 2]
    drawn = pixels(
        draw_boxes(image, boxes, labels, ["a", "b", "c"], [0.9, 0.6, 0.1], min_score=0.3)
    )
    assert tuple(drawn[400, 200]) == ImageColor.getrgb(PALETTE[0])
    assert not (drawn == ImageColor.getrgb(PALETTE[2])).all(axis=2).any()


def test_small_images_are_enlarged_and_labels_stay_inside():
    image = Image.new("RGB", (60, 40), "black")
    changed = []
    for x, y in ((55, 0), (20, 20)):
        box = [(x, y, x + 5, y + 5)]
        bare = draw_boxes(image, box, [0], ["long name"])
        drawn = draw_boxes(image, box, [0], ["long name"], [0.5])
        assert drawn.size == (720, 480)
        assert min(drawn.size) >= SHORTEST_SIDE
        changed.append((pixels(bare) != pixels(drawn)).any(axis=2).sum())
    assert changed[0] > 0.8 * changed[1] > 500


def test_long_thin_images_are_not_blown_up():
    assert draw_boxes(Image.new("RGB", (3000, 4)), [], [], []).size == (3000, 4)
    assert draw_boxes(Image.new("RGB", (900, 4)), [], [], []).size == (3600, 16)


def test_nothing_to_draw_and_more_classes_than_colours():
    image = Image.new("RGB", (500, 480), "white")
    assert pixels(draw_boxes(image, [], [], [])).min() == 255
    names = [str(i) for i in range(40)]
    assert pixels(draw_boxes(image, [(9, 9, 90, 90)], [39], names, [1.0])).min() < 255


def test_panels_stand_side_by_side_under_their_titles():
    panels = [Image.new("RGB", (100, 200), colour) for colour in ("red", "blue")]
    sheet = pixels(side_by_side(panels, ["left", "right"]))
    assert sheet.shape[0] == 224
    assert tuple(sheet[150, 50]) == (255, 0, 0)
    assert tuple(sheet[150, -50]) == (0, 0, 255)
    assert sheet[:24].min() < 200


def label_pixels(boxes, scores, **more):
    """Where labels change a black picture of some boxes of one class."""
    image = Image.new("RGB", (600, 500), "black")
    labels, names = [0] * len(boxes), ["name"]
    bare = pixels(draw_boxes(image, boxes, labels, names, **more))
    return (bare != pixels(draw_boxes(image, boxes, labels, names, scores, **more))).any(axis=2)


def test_labels_do_not_cover_each_other():
    """Each of two boxes at one place has its whole label: the area is twice that of one."""
    box = (200, 200, 400, 400)
    one = label_pixels([box], [0.9])
    two = label_pixels([box, box], [0.9, 0.8])
    assert one.sum() > 500
    assert (two & one).sum() == one.sum()
    assert abs(two.sum() - 2 * one.sum()) < 0.2 * one.sum()


def test_the_best_box_keeps_its_label_where_there_is_no_room_for_all():
    boxes = [(0, 0, 599, 499)] * 60
    scores = [0.5 + i / 1000 for i in range(60)]
    image = Image.new("RGB", (600, 500), "black")
    drawn = pixels(draw_boxes(image, boxes, list(range(60)), ["name"] * 60, scores))
    best = ImageColor.getrgb(PALETTE[59 % len(PALETTE)])
    assert (drawn[2:20, 2:60] == best).all(axis=2).any()


def test_suppressed_boxes_are_thin_and_under_the_others():
    image = Image.new("RGB", (600, 500), "black")
    thin = ImageColor.getrgb(THIN)
    drawn = pixels(
        draw_boxes(image, [(50, 50, 300, 300)], [0], ["a"], suppressed=[(50, 60, 310, 400)])
    )
    assert (drawn[200, 308:314] == thin).all(axis=1).sum() == 1
    assert tuple(drawn[200, 50]) == ImageColor.getrgb(PALETTE[0])
    assert (
        not (pixels(draw_boxes(image, [(50, 50, 300, 300)], [0], ["a"])) == thin).all(axis=2).any()
    )
