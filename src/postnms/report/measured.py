"""What a report says of each row: figures, interval, curves, errors, calibration, images.

B: images, R: recalls.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.config import Progress, no_progress
from postnms.data.dataset import Truth
from postnms.evaluation.bootstrap import Resampled, gain_of, resampled_precisions
from postnms.evaluation.calibration import Calibration, measure_calibration
from postnms.evaluation.columns import ResultColumns
from postnms.evaluation.curves import precision_over_recall
from postnms.evaluation.image_figures import ImageFigures, image_figures
from postnms.evaluation.matching import match_results
from postnms.evaluation.metrics import measure
from postnms.evaluation.results import BestF1, ClassFigures, Figures, Gain
from postnms.evaluation.thresholds import best_f1
from postnms.evaluation.tide import ErrorTypes, cost_errors, find_errors
from postnms.structures import NMS_ROW


@dataclass(frozen=True)
class MeasuredRow:
    """All that a report shows of one row, apart from single boxes."""

    figures: Figures
    gain: Gain
    """Over plain NMS on the same candidates."""
    classes: tuple[ClassFigures, ...]
    precision: NDArray[np.float64]
    """(2, R) at IoU 0.5 and 0.75, see :class:`postnms.evaluation.curves.Curves`."""
    errors: ErrorTypes
    calibration: Calibration
    best: BestF1 | None
    images: ImageFigures


def measure_rows(
    truth: Truth,
    results: Mapping[str, ResultColumns],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    done: Progress = no_progress,
) -> dict[str, MeasuredRow]:
    """Measure the rows of one detector.

    Args:
        truth: the annotations.
        results: the results of each row. The gains are those over the row ``nms``, if it is there.
        bootstrap: number of resamples for the intervals of the gains; 0: no intervals.
        seed: seed of the resamples.
        done: called after every row.
    """
    rows: dict[str, MeasuredRow] = {}
    baseline: Resampled = (None, None)
    for name in sorted(results, key=lambda name: name != NMS_ROW):
        # The matching of one row is in memory at a time.
        matching = match_results(truth, results[name])
        measured = measure(truth, matching)
        drawn = resampled_precisions(matching, bootstrap, seed) if bootstrap else None
        resampled = measured.figures["AP"], drawn
        if name == NMS_ROW:
            baseline = resampled
        errors = find_errors(matching)
        rows[name] = MeasuredRow(
            measured.figures,
            gain_of(baseline, resampled),
            measured.classes,
            precision_over_recall(matching),
            cost_errors(matching, errors),
            measure_calibration(matching),
            best_f1(matching),
            image_figures(matching),
        )
        done(1)
    return {name: rows[name] for name in results}
