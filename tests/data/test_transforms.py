"""Resizing and augmentation of one image with its objects."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.data.resizing import resize, resized_size
from postnms.data.transforms import (
    FILL,
    AugmentationConfig,
    Sample,
    augment,
    hflip,
    transpose,
    vflip,
)
from postnms.errors import UserError


def sample():
    image = torch.arange(3 * 4 * 6, dtype=torch.uint8).view(3, 4, 6)
    boxes = torch.tensor([[0.0, 1, 2, 4], [5, 0, 6, 1]])
    return Sample(image, boxes, torch.tensor([1, 0]), torch.tensor([False, True]), 5, (8, 12))


@pytest.mark.parametrize(
    ("change", "boxes", "corner"),
    [
        (hflip, [[4, 1, 6, 4], [0, 0, 1, 1]], (0, 5)),
        (vflip, [[0, 0, 2, 3], [5, 3, 6, 4]], (3, 0)),
        (transpose, [[1, 0, 4, 2], [0, 5, 1, 6]], (0, 0)),
    ],
)
def test_image_and_boxes_turn_together(change, boxes, corner):
    changed = change(sample())
    assert changed.boxes.tolist() == boxes
    assert torch.equal(changed.image[:, 0, 0], sample().image[:, *corner])
    # The pixels in a box stay the same, in whatever order.
    for before, after in zip(
        sample().boxes.int().tolist(), changed.boxes.int().tolist(), strict=True
    ):
        inside = [
            image[:, y1:y2, x1:x2].flatten().sort().values
            for image, (x1, y1, x2, y2) in ((sample().image, before), (changed.image, after))
        ]
        assert torch.equal(*inside)
    twice = change(changed)
    assert torch.equal(twice.image, sample().image)
    assert torch.equal(twice.boxes, sample().boxes)
    assert twice.original_size == sample().original_size


def test_transposing_swaps_the_original_size():
    assert transpose(sample()).original_size == (12, 8)


@settings(deadline=None)
@given(
    st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([(192, 320), (800, 1333), (64, 64)])
)
def test_sizes_meet_one_side_exactly_and_keep_the_aspect(height, width, limits):
    found = resized_size(height, width, *limits)
    assert min(found) == limits[0] or max(found) == limits[1]
    assert min(found) <= limits[0]
    assert max(found) <= limits[1]
    scale = max(found) / max(height, width)
    assert abs(min(found) - min(height, width) * scale) <= 1


@settings(deadline=None)
@given(st.integers(20, 90), st.integers(20, 90))
def test_torchvisions_transform_then_changes_nothing(height, width):
    image = resize(Image.new("RGB", (width, height)), 48, 80)
    pixels = torch.rand(3, image.height, image.width)
    plain = GeneralizedRCNNTransform(48, 80, [0.0] * 3, [1.0] * 3).eval()
    batch, _ = plain([pixels])
    assert batch.image_sizes == [(image.height, image.width)]
    assert torch.equal(batch.tensors[0, :, : image.height, : image.width], pixels)


def test_resizing_is_anti_aliased():
    stripes = np.zeros((80, 80, 3), np.uint8)
    stripes[:, ::2] = 255
    values = np.asarray(resize(Image.fromarray(stripes), 20, 20))
    assert values.min() > 100
    assert values.max() < 155


def test_probabilities_of_one_and_zero():
    always = AugmentationConfig(horizontal_flip=1, vertical_flip=1, transpose=1)
    turned = augment(sample(), always, torch.Generator())
    assert torch.equal(turned.image, transpose(vflip(hflip(sample()))).image)
    same = augment(sample(), AugmentationConfig(horizontal_flip=0), torch.Generator())
    assert torch.equal(same.image, sample().image)


def test_augmentation_is_a_function_of_the_generator():
    config = AugmentationConfig(
        vertical_flip=0.5, transpose=0.5, brightness=0.3, contrast=0.3, saturation=0.3
    )
    images = [
        augment(sample(), config, torch.Generator().manual_seed(seed)).image
        for seed in (1, 1, 2, 3)
    ]
    assert torch.equal(images[0], images[1])
    assert not all(torch.equal(images[0], other) for other in images[2:])


def test_colour_changes_stay_bytes_within_their_strength():
    grey = dataclasses.replace(sample(), image=torch.full((3, 4, 6), 100, dtype=torch.uint8))
    for seed in range(20):
        config = AugmentationConfig(horizontal_flip=0, brightness=0.2)
        found = augment(grey, config, torch.Generator().manual_seed(seed)).image
        assert found.dtype == torch.uint8
        assert found.min() >= 79
        assert found.max() <= 121


def picture(height=40, width=60):
    """A dark image with one bright rectangle, which the box is drawn around."""
    image = torch.full((3, height, width), 10, dtype=torch.uint8)
    image[:, 10:20, 20:40] = 250
    boxes = torch.tensor([[20.0, 10, 40, 20]])
    return Sample(image, boxes, torch.tensor([3]), torch.tensor([False]), 1, (height, width))


def bright(found):
    """The box around the bright pixels of an image, whatever its annotations say."""
    rows, columns = (found.image[0] > 180).nonzero(as_tuple=True)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.4, 0.9), (1.0, 1.0001), (1.5, 1.5), (0.5, 2.0)])
def test_the_box_stays_on_its_object_at_any_scale(scale):
    config = AugmentationConfig(horizontal_flip=0, scale=scale)
    larger = config.largest_scale
    limits = (round(40 * larger), round(60 * larger))
    image = resize(Image.fromarray(picture().image.permute(1, 2, 0).numpy()), *limits)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    stored = dataclasses.replace(picture(), image=pixels, boxes=picture().boxes * larger)
    widths = set()
    for seed in range(30):
        found = augment(stored, config, torch.Generator().manual_seed(seed))
        assert found.image.shape == (3, 40, 60)
        assert found.image.dtype == torch.uint8
        if not len(found.labels):
            continue
        assert torch.allclose(found.boxes[0], torch.tensor(bright(found)).float(), atol=1.6)
        left, top, right, bottom = found.boxes[0].tolist()
        if left > 1 and right < 59 and top > 1 and bottom < 39:  # not cut by the border
            widths.add(right - left)
    assert min(widths) >= 20 * scale[0] * 0.95
    assert max(widths) <= 20 * scale[1] * 1.05


def test_a_smaller_image_lies_on_grey():
    config = AugmentationConfig(horizontal_flip=0, scale=(0.5, 0.5))
    found = augment(picture(), config, torch.Generator().manual_seed(1))
    grey = (found.image == torch.tensor(FILL, dtype=torch.uint8)[:, None, None]).all(dim=0)
    assert int(grey.sum()) == 40 * 60 - 20 * 30


def test_boxes_that_a_crop_leaves_nothing_of_are_left_out():
    config = AugmentationConfig(horizontal_flip=0, scale=(2.0, 2.0))
    kept = {
        len(augment(picture(), config, torch.Generator().manual_seed(seed)).labels)
        for seed in range(40)
    }
    assert kept == {0, 1}
    for seed in range(40):
        found = augment(picture(), config, torch.Generator().manual_seed(seed))
        assert len(found.labels) == len(found.boxes) == len(found.crowd)
        assert ((found.boxes[:, 2:] - found.boxes[:, :2]) >= 1).all()


def test_a_crop_keeps_boxes_on_their_objects_and_has_the_limits_of_the_size():
    config = AugmentationConfig(horizontal_flip=0, crop=1.0)
    changed = 0
    for seed in range(40):
        found = augment(picture(), config, torch.Generator().manual_seed(seed), (32, 48))
        height, width = found.image.shape[1:]
        assert min(height, width) == 32 or max(height, width) == 48
        assert torch.allclose(found.boxes[0], torch.tensor(bright(found)).float(), atol=2.1)
        changed += found.image.shape != (3, 32, 48)
    assert changed > 10


def test_crops_leave_torchs_own_generator_as_it_is():
    config = AugmentationConfig(crop=1.0, scale=(0.5, 2.0))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = augment(picture(), config, torch.Generator().manual_seed(3))
    assert torch.equal(torch.rand(1), expected)
    again = augment(picture(), config, torch.Generator().manual_seed(3))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.boxes, again.boxes)


def test_images_without_objects_and_tiny_ones_are_not_cropped():
    config = AugmentationConfig(horizontal_flip=0, crop=1.0)
    nothing = torch.zeros(0, dtype=torch.int64)
    empty = dataclasses.replace(
        picture(), boxes=torch.zeros(0, 4), labels=nothing, crowd=nothing.bool()
    )
    for given_sample in (empty, sample()):
        found = augment(given_sample, config, torch.Generator().manual_seed(2))
        assert torch.equal(found.image, given_sample.image)


def test_the_smaller_factor_comes_first():
    with pytest.raises(UserError, match="scale: expected the smaller limit first"):
        AugmentationConfig.parse({"scale": [2.0, 1.0]}, "augmentation")
