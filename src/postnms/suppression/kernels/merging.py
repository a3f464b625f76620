"""Kernel of non-max merge, the compiled twin of ``../merging.py``.

It runs when the candidates are CPU tensors (backend ``cpu``), and must equal the torch code of its
twin. The argument ``columns`` (4, n) is that of ``overlaps.py``.
"""

from postnms.ops.jit import exact
from postnms.suppression.kernels.overlaps import ios_of, iou_of


@exact
def merge_members(columns, owner, threshold, measure, merged):  # pragma: no cover: compiled
    """Grow the boxes of the keys around the members that overlap them as they are so far.

    Args:
        columns: Edges of the boxes.
        owner: (n,) int64, the position of the key that owns each candidate. The members of a key
            rank behind it, by falling score.
        threshold: Overlap above which a member is merged, float32.
        measure: Position of the measure in ``MEASURES`` of ``../overlaps.py``, 0 or 1.
        merged: (4, n) float32, output, the edges of the merged boxes at the positions of the keys.
            It must equal ``columns`` on entry.
    """
    for i in range(len(owner)):
        key = owner[i]
        if key == i:
            continue
        overlap = (
            iou_of(merged, key, columns, i) if measure == 0 else ios_of(merged, key, columns, i)
        )
        if overlap > threshold:
            for edge in range(2):
                merged[edge, key] = min(merged[edge, key], columns[edge, i])
                merged[edge + 2, key] = max(merged[edge + 2, key], columns[edge + 2, i])
