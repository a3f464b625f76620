"""Candidates are ranked by score, whatever the score is."""

import numpy as np
import pytest
import torch

from postnms.ops import cluster_nms
from postnms.ops.clustering.cpu import ranking


@pytest.mark.parametrize("times", [1, 20, 400], ids=["counted", "8 bits", "11 bits"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_kind_of_score_is_ranked(dtype, times):
    """Signs, zeros of either sign, denormals; apart, so that all are keys."""
    values = [0.0, -0.0, 1.0, -1.0, 5e-324, 1e-45, -1e-45, 3e38, -3e38, 0.0, 1.0, -2.5] * times
    scores = torch.tensor(values, dtype=dtype)
    corner = torch.arange(len(values), dtype=dtype)[:, None] * 10
    boxes = torch.cat([corner, corner, corner + 5, corner + 5], 1)
    expected = sorted(range(len(values)), key=lambda row: (-float(scores[row]), row))
    assert cluster_nms(boxes, scores, backend="cpu")[0].tolist() == expected


@pytest.mark.parametrize(
    "count", [1, 2, 7, ranking.VERY_FEW, ranking.VERY_FEW + 1, ranking.FEW + 1]
)
def test_candidates_are_in_order_of_group_score_and_row(count):
    """Many scores and groups are equal, and one group has a large number."""
    random = np.random.default_rng(count)
    scores = random.integers(-3, 4, count).astype(np.float32)
    groups = random.choice([0, 5, 2**40], count)
    order, starts, row_of_rank = ranking.rank_candidates(scores.view(np.int32), groups)
    expected = sorted(range(count), key=lambda row: (groups[row], -scores[row], row))
    assert order.tolist() == expected
    assert starts.tolist() == [
        row for row in range(count) if row == 0 or groups[order[row]] != groups[order[row - 1]]
    ] + [count]
    by_score = sorted(range(count), key=lambda row: (-scores[row], row))
    assert order[row_of_rank].tolist() == by_score
