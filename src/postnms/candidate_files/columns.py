"""Names and types of the tensors in a file of candidates.

The extra columns that may lie beside them are :data:`postnms.structures.EXTRA_COLUMNS`.
"""

import numpy as np

FORMAT = "postnms-candidates-1"
"""Name of the format in the metadata of a file whose image ids are all integers of 64 bits."""

FORMAT_OF_ANY_IDS = "postnms-candidates-2"
"""Name of the format of other files. It differs in the tensor ``image_ids`` alone."""

COLUMNS = {
    "boxes": np.dtype("<f4"),
    "scores": np.dtype("<f4"),
    "labels": np.dtype("<i4"),
    "source": np.dtype("<i4"),
}
"""The columns of candidates, and of every row of detections, by name."""


LONGEST_NAME = 100
"""Largest number of characters of the name of a row or of an extra column."""


def is_name(name: str) -> bool:
    """Return whether a row or an extra column may have this name.

    It is shown in tables and charts, so it is printable and neither empty nor very long.
    """
    return 0 < len(name) <= LONGEST_NAME and name.isprintable()
