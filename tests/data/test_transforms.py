"""Resizing and augmentation of one image with its objects."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.data.transforms import (
    AugmentationConfig,
    Sample,
    augment,
    hflip,
    resize,
    resized_size,
    transpose,
    vflip,
)


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
