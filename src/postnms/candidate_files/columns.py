"""Names and types of the tensors in a file of candidates.

The extra columns that may lie beside them are :data:`postnms.structures.EXTRA_COLUMNS`.
"""

import numpy as np

FORMAT = "postnms-candidates-1"
"""Name of the format in the metadata of a file."""

COLUMNS = {
    "boxes": np.dtype("<f4"),
    "scores": np.dtype("<f4"),
    "labels": np.dtype("<i4"),
    "source": np.dtype("<i4"),
}
"""The columns of candidates, and of every row of detections, by name."""
