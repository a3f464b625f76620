"""Kernels on tensors. Each operation has a folder, and each backend of it has a file there."""

from postnms.ops.clustering import cluster_nms
from postnms.ops.pooling.convolved import pool_convolved
from postnms.ops.pooling.precise import pool_precisely
from postnms.ops.pooling.roi_align import pool_pyramid

__all__ = ["cluster_nms", "pool_convolved", "pool_precisely", "pool_pyramid"]
