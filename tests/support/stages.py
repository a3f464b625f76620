"""A scene of five boxes on two images, and small stages with random weights."""

import torch

from postnms.stage import PostNMSStage, StageConfig
from postnms.structures import Level
from tests.support.builders import clusters_by_hand, make, truths

SIZES = [(64, 80), (64, 64)]
BOXES = [(0, 0, 20, 20), (2, 0, 22, 20), (40, 40, 60, 60), (0, 0, 20, 20), (5, 30, 25, 50)]
CANDIDATES = make(BOXES, [0.9, 0.6, 0.3, 0.8, 0.7], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1], 2)
CLUSTERS = clusters_by_hand(CANDIDATES, [0, 3, 4, 2], [0, 0, 3, 1, 2])
TARGETS = truths([(1, 0, 21, 20), (5, 30, 25, 52)], [0, 1], [0, 1], num_images=2)


def features(channels=8, requires_grad=False):
    random = torch.Generator().manual_seed(0)
    shapes = {"0": (16, 20), "1": (8, 10), "pool": (4, 5)}
    return {
        name: torch.randn(2, channels, *shape, generator=random, requires_grad=requires_grad)
        for name, shape in shapes.items()
    }


def build(**settings):
    torch.manual_seed(0)
    return PostNMSStage(StageConfig(width=16, **settings), {"0": Level(8, 4), "1": Level(8, 8)}, 2)


def rows_of_heads(stage):
    """Rows that the heads are given, call by call."""
    seen = []
    stage.heads.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    return seen
