"""Images and anchors as a network takes them."""

import pytest
import torch

from postnms.detectors import ImageBatch
from postnms.detectors.image_batch import check_images, to_network
from tests.support.detectors import TARGETS, build


def test_anchors_are_not_rounded_to_the_dtype_of_the_levels():
    """bfloat16 would move anchors at 1000 pixels by up to 2, in the generator's own table too."""
    network = build("faster_rcnn").network
    generator = network.rpn.anchor_generator
    batch = ImageBatch(torch.zeros(1, 3, 800, 1344), [(800, 1333)], [(800, 1333)])
    levels = [torch.zeros(1, 16, 800 // stride, 1344 // stride) for stride in (4, 8, 16, 32, 64)]
    expected = batch.anchors(generator, levels)[0]
    found = batch.anchors(generator, [level.bfloat16() for level in levels])[0]
    assert found.dtype == torch.float32
    assert expected.max() > 1400
    assert torch.equal(found, expected)
    assert torch.equal(batch.anchors(generator, levels)[0], expected)


def test_targets_on_another_device_than_the_images_are_named():
    batch = ImageBatch(torch.zeros(2, 3, 8, 8, device="meta"), [(8, 8)] * 2, [(8, 8)] * 2)
    with pytest.raises(ValueError, match="targets: expected device meta as the images, got cpu"):
        to_network(TARGETS, batch, 3)


def test_floats_over_1_are_refused_with_what_to_do():
    good = torch.ones(3, 4, 4)
    check_images([good, good.to(torch.uint8) * 255])
    with pytest.raises(ValueError, match=r"^images\[1\]: .* got 200 to 200; divide by 255"):
        check_images([good, good * 200])
