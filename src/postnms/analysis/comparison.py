"""Suppressors side by side on the same candidates, as in the paper's Table 2."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from postnms.analysis.oracle import ORACLE, oracle_boxes
from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.replays import as_results, replay
from postnms.data.dataset import Truth
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.metrics import FIGURES, coco_metrics
from postnms.structures import Detections
from postnms.suppression import SUPPRESSORS, Suppressor

BASELINE = "nms"
"""The row that others are compared with: greedy NMS with its defaults."""
SHOWN = FIGURES[:9]


@dataclass(frozen=True)
class ComparedRow:
    """One line of the table; figures in per cent."""

    name: str
    figures: dict[str, float | None]
    """By the names of :data:`postnms.evaluation.metrics.FIGURES`."""
    gain: float | None
    """AP over the baseline's."""
    low: float | None
    """Bounds of the gain's 95 % interval, by paired bootstrap over the images; None without resamples."""
    high: float | None
    milliseconds: float | None
    """Time an image; None where it was not measured."""
    settings: dict[str, object]
    """Of the suppressor."""


def compare(
    file: CandidateFile,
    truth: Truth,
    suppressors: Mapping[str, Suppressor],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    done: Callable[[int], None] = lambda rows: None,
) -> list[ComparedRow]:
    """The baseline, the suppressors, the rows that the file holds (as ``run NAME``), and the oracle."""
    if suppressors.get(BASELINE, SUPPRESSORS[BASELINE]) != SUPPRESSORS[BASELINE]:
        raise ValueError(
            f"suppressors: {BASELINE!r} is the baseline with its defaults; name one with others otherwise"
        )
    baseline, rows = None, []
    for name, detections, spent, settings in _rows(file, truth, suppressors):
        results = as_results(detections, file)
        figures = coco_metrics(truth.content, results)
        drawn = resampled_precisions(truth.content, results, bootstrap, seed) if bootstrap else None
        baseline = baseline or (figures["AP"], drawn)
        gain = low = high = None
        if figures["AP"] is not None and baseline[0] is not None:
            gain = figures["AP"] - baseline[0]
            if drawn is not None and baseline[1] is not None:
                low, high = gain_interval(baseline[1], drawn)
        rows.append(ComparedRow(name, figures, gain, low, high, spent, settings))
        done(1)
    return rows


def count_rows(file: CandidateFile, suppressors: Mapping[str, Suppressor]) -> int:
    """How many rows :func:`compare` gives."""
    return len({BASELINE, *suppressors}) + len(file.rows) + 1


def usable(file: CandidateFile) -> dict[str, Suppressor]:
    """All named suppressors that the file has the extra columns and, where they must be in [0, 1], the scores for."""
    scores = [candidates.scores for _, candidates in file.chunks()]
    probable = all(bool(((some >= 0) & (some <= 1)).all()) for some in scores)
    rules = (
        SUPPRESSORS.items()
        if probable
        else ((n, r) for n, r in SUPPRESSORS.items() if not r.needs_probabilities)
    )
    return {name: rule for name, rule in rules if set(rule.columns) <= set(file.extra)}


def _rows(
    file: CandidateFile, truth: Truth, suppressors: Mapping[str, Suppressor]
) -> Iterator[tuple[str, Detections, float | None, dict[str, object]]]:
    """Name, detections, milliseconds and settings of each row, the baseline first."""
    for name, rule in ({BASELINE: SUPPRESSORS[BASELINE]} | dict(suppressors)).items():
        replayed = replay(file, rule)
        yield name, replayed.detections, replayed.milliseconds, rule.model_dump(mode="json")
    for name in file.rows:
        yield f"run {name}", file.row(name), file.milliseconds.get(name), {}
    greedy = SUPPRESSORS[BASELINE].model_dump()
    settings = {name: greedy[name] for name in ("iou_threshold", "max_detections")}
    yield ORACLE, oracle_boxes(file, truth, **settings), None, settings
