"""What detections get wrong, and what their clusters would still have to give."""

from postnms.analysis.cluster_statistics import ClusterIoUs, cluster_ious, concatenate, histogram
from postnms.analysis.duplicates import duplicate_rate, max_recall
from postnms.analysis.error_types import ERROR_TYPES, ErrorTypes, error_types
from postnms.analysis.headroom import best_member

__all__ = [
    "ERROR_TYPES",
    "ClusterIoUs",
    "ErrorTypes",
    "best_member",
    "cluster_ious",
    "concatenate",
    "duplicate_rate",
    "error_types",
    "histogram",
    "max_recall",
]
