"""Kernels on tensors: one folder an operation, one file a backend."""

from postnms.ops.clustering import cluster_nms
from postnms.ops.pooling.convolved import pool_convolved
from postnms.ops.pooling.roi_align import pool_pyramid

__all__ = ["cluster_nms", "pool_convolved", "pool_pyramid"]
