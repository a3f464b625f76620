"""Scenes for ``cluster_nms``, and all ways to compute it."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from postnms.ops import cluster_nms
from postnms.ops.clustering import BACKENDS
from postnms.ops.clustering import cpu as cpu_backend

INSTALLED = [name for name in BACKENDS if name != "triton" or find_spec("triton")]
PATHS = [*INSTALLED[1:], "cpu scan", "cpu grid"]
"""Backends after the reference, and each way of the one that chooses by count."""


def cluster_by(path, *scene):
    """``cluster_nms`` along one of ``PATHS``; Triton's on the GPU, or in its interpreter."""
    backend, _, way = path.partition(" ")
    if backend == "triton" and torch.cuda.is_available():
        scene = [part.cuda() if isinstance(part, torch.Tensor) else part for part in scene]
    with pytest.MonkeyPatch.context() as patch:
        if way:
            patch.setattr(cpu_backend, "GRID_FROM", 0 if way == "grid" else 10**9)
        # Triton's interpreter computes in numpy, which warns where a GPU gives infinity in silence.
        with np.errstate(over="ignore", invalid="ignore"):
            return tuple(part.cpu() for part in cluster_nms(*scene, backend=backend))


def random_scene(count, groups=3, seed=0, levels=20):
    """About ten boxes an object, with tied scores."""
    random = torch.Generator().manual_seed(seed)
    objects = max(count // 10, 1)
    centre = torch.rand(objects, 2, generator=random) * 30 * count**0.5
    side = torch.rand(objects, 2, generator=random) * 60 + 30
    which = torch.arange(count) % objects
    middle = centre[which] + torch.randn(count, 2, generator=random) * 6
    half = side[which] * (1 + 0.1 * torch.randn(count, 2, generator=random).clamp(-2, 2)) / 2
    scores = (torch.rand(count, generator=random) * levels).round() / levels
    return (
        torch.cat([middle - half, middle + half], 1),
        scores,
        torch.randint(groups, (count,), generator=random),
    )


@st.composite
def grids(draw):
    """Boxes on a small integer grid with few scores, for ties and exact thresholds."""
    count = draw(st.integers(0, 24))
    corner, side = st.integers(0, 6), st.integers(0, 5)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=count, max_size=count))
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=torch.float32).view(
        -1, 4
    )
    scores = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=count, max_size=count))
    groups = draw(st.lists(st.sampled_from([0, 1, 2**40]), min_size=count, max_size=count))
    return boxes, torch.tensor(scores), torch.tensor(groups, dtype=torch.int64)


def near_copies(seed, count, spread, dtype):
    """Clumps of near copies of any size: many pairs on either side of every threshold."""
    random = torch.Generator().manual_seed(seed)
    clumps = count // 6
    which = torch.randint(clumps, (count,), generator=random)
    side = torch.exp(torch.randn(clumps, 2, generator=random, dtype=dtype) * spread)[which] * 40
    side = side * torch.exp(torch.randn(count, 2, generator=random, dtype=dtype) * 0.4)
    middle = (torch.rand(clumps, 2, generator=random, dtype=dtype) * 200 - 100)[which]
    middle = middle + torch.randn(count, 2, generator=random, dtype=dtype) * side / 4
    groups = torch.randint(2, (count,), generator=random)
    return (
        torch.cat([middle - side / 2, middle + side / 2], 1),
        torch.rand(count, generator=random),
        groups,
    )


@st.composite
def extreme_scenes(draw):
    """Clumps of boxes whose sides are near the limits of float32, alone or among common ones.

    Sides of 1e-19 have subnormal areas, those of 1e-23 have none, those of 1e-38 are subnormal
    themselves. The areas of sides of 1e19 are the largest finite ones.
    """
    exponents = draw(
        st.sampled_from(
            [(-23, -22), (-24, -17), (-45, -19), (17, 20), (18, 38), (-24, 20), (-45, 38)]
        )
    )
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    count, clumps = draw(st.integers(20, 80)), draw(st.integers(1, 12))
    low, high = exponents
    which = torch.randint(clumps, (count,), generator=random)

    def uniform(*size):
        return torch.rand(*size, generator=random, dtype=torch.float64)

    side = (10 ** (low + (high - low) * uniform(clumps, 2)))[which]
    centre = uniform(clumps, 2)[which] * side * draw(st.sampled_from([0, 1]))
    middle = centre + side * (uniform(count, 2) - 0.5) * 0.5
    half = side * (0.7 + 0.6 * uniform(count, 2)) / 2
    largest = torch.finfo(torch.float32).max
    boxes = torch.cat([middle - half, middle + half], 1).clamp(-largest, largest).float()
    scores = (uniform(count) * 5).round().float()
    return boxes, scores, torch.randint(2, (count,), generator=random)
