"""The density of objects, and the head that learns it."""

import pytest
import torch

from postnms.distributed.collectives import settle
from postnms.rivals import DensityHeadConfig
from postnms.rivals.density import DensityHead, densities
from postnms.rivals.jitter import MovedBoxes
from postnms.structures import Level
from tests.support.builders import truths

LEVELS = {"0": Level(4, 4)}


def test_the_density_is_the_largest_iou_with_another_object_of_image_and_class():
    targets = truths(
        [
            (0, 0, 10, 10),
            (5, 0, 15, 10),
            (2, 0, 12, 10),
            (0, 0, 10, 10),
            (0, 0, 10, 10),
            (40, 0, 50, 9),
        ],
        labels=[0, 0, 1, 0, 0, 0],
        image=[0, 0, 0, 1, 0, 0],
        crowd=[False, False, False, False, True, False],
        num_images=2,
    )
    # The third is of another class, the fourth of another image, the fifth a crowd region.
    found = densities(targets)
    assert found[:4].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 0])
    assert found[5].item() == 0
    assert densities(truths([])).shape == (0,)


def test_the_loss_is_smooth_l1_of_the_density_of_the_object():
    torch.manual_seed(0)
    head = DensityHead(DensityHeadConfig(width=8, loss_weight=2.0), LEVELS, 2)
    features = {"0": torch.randn(1, 4, 16, 16)}
    targets = truths([(0, 0, 20, 20), (10, 0, 30, 20)], [1, 1])
    moved = MovedBoxes(targets.boxes, torch.tensor([0, 1]), torch.ones(2))
    loss = settle({"loss": head.loss(features, moved, targets)}, torch.device("cpu"))["loss"]
    image = torch.zeros(2, dtype=torch.int64)
    predicted = head(features, targets.boxes, image, torch.tensor([1, 1]))
    assert ((predicted > 0) & (predicted < 1)).all()
    expected = 2.0 * ((predicted - 1 / 3) ** 2 / 2).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
