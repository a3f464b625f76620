"""Fusion of the three scores of a detection (paper: section 3.4, Table 6)."""

from torch import Tensor


def fuse(s_ori: Tensor, s_clu: Tensor, s_obj: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """``s = w_ori s_ori + w_clu s_clu + w_obj s_obj`` for scores (k,) each, ``weights`` in that order."""
    w_ori, w_clu, w_obj = weights
    return w_ori * s_ori + w_clu * s_clu + w_obj * s_obj
