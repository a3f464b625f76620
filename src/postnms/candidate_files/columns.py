"""Names and types of the columns of a file of candidates."""

import numpy as np

FORMAT = "postnms-candidates-1"


_COLUMNS = {
    "boxes": np.dtype("<f4"),
    "scores": np.dtype("<f4"),
    "labels": np.dtype("<i4"),
    "source": np.dtype("<i4"),
}


EXTRA = {"iou": 1, "density": 1, "edge_log_variance": 4, "model": 1}
"""Fields of an entry that become extra columns, and how many numbers each has."""


REFINED = "refined_boxes"
"""Extra column of runs with a stage: where it would move each candidate."""
