"""Suppressors side by side on the same candidates, as in the paper's Table 2."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from postnms.analysis.oracle import best_member
from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.replays import concatenate, replay
from postnms.candidate_files.truth import group_by_image, targets_of
from postnms.clustering import cluster
from postnms.config import nearest
from postnms.data.formats.coco import Truth
from postnms.errors import UserError
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.metrics import FIGURES, Result, coco_metrics, to_results
from postnms.structures import Detections
from postnms.suppression import SUPPRESSORS, Suppressor
from postnms.suppression.registry import full_name, sets_field, with_fields

BASELINE = "nms"
"""The row that others are compared with: greedy NMS with its defaults."""
ORACLE = "oracle_box"
"""What choosing boxes could still gain: the baseline with each cluster's best member, which only the truth tells."""
SHOWN = FIGURES[:9]
MOST_VALUES = 1000
"""Of a sweep."""


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
        raise ValueError(f"suppressors: {BASELINE!r} is the baseline with its defaults; name one with others otherwise")
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
    rules = SUPPRESSORS.items() if probable else ((n, r) for n, r in SUPPRESSORS.items() if not r.needs_probabilities)
    return {name: rule for name, rule in rules if set(rule.columns) <= set(file.extra)}


def sweep(suppressors: Mapping[str, Suppressor], text: str) -> dict[str, Suppressor]:
    """The suppressors, and each that has the field also with every value of ``FIELD=FIRST:LAST:STEP``.

    ``iou`` and ``score`` are short for ``iou_threshold`` and ``score_threshold``. Names that set the field already,
    as of an earlier sweep, stay as they are. Raises UserError for another form, and if no suppressor has the field.
    """
    field, values = _read_sweep(text)
    chosen = {name: rule for name, rule in suppressors.items() if not sets_field(name, field)}
    fields = sorted({name for rule in chosen.values() for name in type(rule).model_fields})
    if field not in fields:
        close = nearest(field, fields)
        raise UserError(f"--sweep {text}: none of the suppressors has a field {field!r} that is not set ({close})")
    swept = dict(suppressors)
    for name, rule in chosen.items():
        if field in type(rule).model_fields:
            for value in values:
                swept[f"{name}:{field}={value!r}"] = with_fields(name, rule, {field: value})
    return swept


def as_results(detections: Detections, file: CandidateFile) -> list[Result]:
    """Detections of a file's images as COCO results."""
    ids = [category.id for category in file.categories]
    return to_results(detections, file.image_ids, [(1.0, 1.0)] * len(file), ids)


def oracle_boxes(file: CandidateFile, truth: Truth, iou_threshold: float, max_detections: int) -> Detections:
    """The row :data:`ORACLE`."""
    by_image, parts, start = group_by_image(truth), [], 0
    for ids, candidates in file.chunks(images=8):  # few: each candidate meets each object of its chunk
        targets = targets_of(truth, ids, by_image)
        found = best_member(cluster(candidates, iou_threshold), targets, max_detections)
        parts.append(dataclasses.replace(found, image=found.image + start, num_images=len(file)))
        start += len(ids)
    return concatenate(parts, len(file))


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


def _read_sweep(text: str) -> tuple[str, Sequence[int | float]]:
    field, _, bounds = text.partition("=")
    try:
        first, last, step = map(float, bounds.split(":"))
        count = int((last - first) / step + 1 + 1e-9)
    except (ValueError, ZeroDivisionError, OverflowError):
        first, step, count = 0.0, 0.0, 0
    if not 0 < count <= MOST_VALUES or not field or (count > 1 and abs(step) < 1e-9):
        raise UserError(f"--sweep {text}: expected FIELD=FIRST:LAST:STEP, for example iou=0.3:0.7:0.05")
    values = [round(first + i * step, 10) for i in range(count)]
    return full_name(field), [int(value) if value.is_integer() else value for value in values]
