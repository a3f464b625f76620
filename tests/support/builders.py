"""Candidates, truths and clusters for tests, made by hand or at random."""

import torch
from hypothesis import strategies as st

from postnms.clustering import cluster
from postnms.structures import Candidates, Clusters, Targets
from postnms.suppression import SUPPRESSORS


def make(boxes, scores, labels=None, image=None, num_images=1):
    count = len(boxes)
    return Candidates(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels or [0] * count, dtype=torch.int64),
        torch.tensor(image or [0] * count, dtype=torch.int64),
        torch.arange(count),
        num_images,
    )


def truths(boxes, labels=None, image=None, crowd=None, num_images=1):
    count = len(boxes)
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(labels or [0] * count, dtype=torch.int64),
        torch.tensor(image or [0] * count, dtype=torch.int64),
        torch.tensor(crowd or [False] * count, dtype=torch.bool),
        num_images,
    )


def clusters_by_hand(candidates, keys, assignment):
    """Return clusters as given. Modules make theirs with it, so that importing runs no kernel."""
    return Clusters(candidates, torch.tensor(keys), torch.tensor(assignment))


# Cluster 0: key 0 and member 1; cluster 1: key 2.
CLUSTERS = clusters_by_hand(
    make([(0, 0, 10, 10), (2, 0, 12, 10), (50, 50, 60, 60)], [0.8, 0.4, 0.6]), [0, 2], [0, 0, 1]
)


def random_candidates(count, images=2, classes=3, side=100.0, seed=0, extra=True):
    generator = torch.Generator().manual_seed(seed)
    corner = side * torch.rand(count, 2, generator=generator)
    size = 1 + 0.4 * side * torch.rand(count, 2, generator=generator)
    columns = {
        "density": torch.rand(count, generator=generator),
        "iou": torch.rand(count, generator=generator),
        "edge_log_variance": torch.randn(count, 4, generator=generator),
    }
    return Candidates(
        torch.cat([corner, corner + size], dim=1),
        torch.rand(count, generator=generator),
        torch.randint(classes, (count,), generator=generator),
        torch.randint(images, (count,), generator=generator),
        torch.arange(count),
        images,
        columns if extra else {},
    )


@st.composite
def scenes(draw):
    """Draw clusters and truths of three images on a small grid.

    There are two classes, few levels of the score, and some crowd regions.
    """

    def boxes(count):
        corner, side = st.integers(0, 3), st.sampled_from([0, 3, 4, 5, 6])
        rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=count, max_size=count))
        return [(x, y, x + w, y + h) for x, y, w, h in rows]

    def column(values, count):
        return draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))

    count, objects = draw(st.integers(0, 16)), draw(st.integers(0, 6))
    candidates = make(
        boxes(count),
        column([0.2, 0.5, 0.8], count),
        column([0, 0, 1], count),
        column([0, 0, 1, 2], count),
        3,
    )
    crowd = column([False, False, False, True], objects)
    targets = truths(
        boxes(objects), column([0, 0, 1], objects), column([0, 0, 1, 2], objects), crowd, 3
    )
    return cluster(candidates, 0.4), targets


def candidates_of(boxes, scores, labels=None, source=None, **extra):
    count = len(boxes)
    return Candidates(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels or [0] * count, dtype=torch.int64),
        torch.zeros(count, dtype=torch.int64),
        torch.tensor(source or list(range(count)), dtype=torch.int64),
        1,
        {name: torch.tensor(column, dtype=torch.float32) for name, column in extra.items()},
    )


NEVER_RISE = [
    name
    for name in SUPPRESSORS
    if name not in ("cp_cluster", "iou_guided_nms", "confluence", "confluence_nms")
]
