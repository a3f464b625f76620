"""Rows of detections as a viewer shows them: each with its verdict and, if known, its cluster.

N: detections of a row, m: annotations of classes that the truth lists.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.errors import UserError, shown, shown_name
from postnms.evaluation.columns import ResultColumns, read_results
from postnms.evaluation.matching import match_results
from postnms.evaluation.numbering import category_positions
from postnms.evaluation.results import Result
from postnms.evaluation.tide import find_errors, verdicts


@dataclass(frozen=True, eq=False)
class ViewedRow:
    """The detections of one row, and what is known of each."""

    name: str
    """Letters, digits and underscores: it names files and fields."""
    columns: ResultColumns
    """Images and classes have their positions in the truth, see
    :func:`postnms.evaluation.columns.read_results`."""
    verdicts: NDArray[np.str_] | None
    """(N,) of :data:`postnms.evaluation.tide.VERDICTS`. None: there are no annotations to compare
    with."""
    missed: NDArray[np.bool_] | None
    """(m,). True: an object that no detection of the row is matched to. None as in ``verdicts``."""
    found: NDArray[np.int64] | None = None
    """(N,) 0..m-1: the object that the detection is matched to, -1 if it is not right. None as in
    ``verdicts``."""
    clusters: NDArray[np.int64] | None = None
    """(N,) number of the cluster within its image, from 1 on by the score of the key. 0: it is not
    known. None: the clusters are not known at all."""
    keys: NDArray[np.bool_] | None = None
    """(N,). True: the candidate is the key of its cluster. None: the row has no members."""

    def above(self, min_score: float) -> "ViewedRow":
        """Return the row without the detections that score less.

        Better detections choose first, so what is said of those that stay is as it was. An object
        that only one of the others is matched to is missed.
        """
        kept = self.columns.scores >= min_score
        parts = {name: getattr(self.columns, name)[kept] for name in _COLUMNS}
        of_rows = {name: getattr(self, name) for name in ("verdicts", "found", "clusters", "keys")}
        taken = {name: None if part is None else part[kept] for name, part in of_rows.items()}
        missed = self.missed
        if missed is not None and self.found is not None:
            missed = missed.copy()
            missed[self.found[~kept & (self.found >= 0)]] = True
        return replace(self, columns=replace(self.columns, **parts), missed=missed, **taken)


_COLUMNS = ("image", "label", "boxes", "scores")


def view_row(name: str, truth: Truth, results: Sequence[Result] | ResultColumns) -> ViewedRow:
    """Return a row with its verdicts, which are those of COCO's matching at IoU 0.5.

    Results of a class that the truth does not list are left out. Raises UserError for a result of
    an image that the truth does not list.
    """
    try:
        columns = read_results(truth, results)
    except ValueError as error:
        raise UserError(f"row {shown_name(name)}: {error}") from error
    own = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not truth.annotated:
        return ViewedRow(own, columns, None, None)
    matching = match_results(truth, columns)
    errors = find_errors(matching)
    said = verdicts(matching, errors, len(columns))
    right = matching.correct[0]
    found = np.full(len(columns), -1, np.int64)
    found[matching.results.given[right]] = matching.taken[right]
    return ViewedRow(own, columns, said, errors.unmatched, found)


def check_names(rows: Sequence[ViewedRow]) -> None:
    """Raise UserError if two rows would have one file, or one the file of the truth."""
    names = [row.name for row in rows]
    twice = next((name for name in names if names.count(name) > 1 or name == "truth"), None)
    if twice is not None:
        raise UserError(f"expected rows with names of their own, got {shown(twice)} again")


def listed_annotations(truth: Truth) -> list[dict]:
    """Return the m annotations of classes that the truth lists, in the order of ``missed``."""
    known = category_positions(truth)
    return [entry for entry in truth.annotations if entry["category_id"] in known]
