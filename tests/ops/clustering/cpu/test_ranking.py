"""Candidates are ranked by score, whatever the score is."""

import pytest
import torch

from postnms.ops import cluster_nms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_kind_of_score_is_ranked(dtype):
    """Signs, zeros of either sign, denormals; apart, so that all are keys."""
    values = [0.0, -0.0, 1.0, -1.0, 5e-324, 1e-45, -1e-45, 3e38, -3e38, 0.0, 1.0, -2.5]
    scores = torch.tensor(values, dtype=dtype)
    corner = torch.arange(len(values), dtype=dtype)[:, None] * 10
    boxes = torch.cat([corner, corner, corner + 5, corner + 5], 1)
    expected = sorted(range(len(values)), key=lambda row: (-float(scores[row]), row))
    assert cluster_nms(boxes, scores, backend="cpu")[0].tolist() == expected
