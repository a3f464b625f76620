"""Suppressors side by side on the same candidates, as in the paper's Table 2."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from postnms.analysis.oracle import ORACLE, oracle_boxes
from postnms.analysis.study import Study
from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.refined import fusion_of
from postnms.candidate_files.replays import as_columns, replay
from postnms.config import Progress, no_progress
from postnms.evaluation.bootstrap import gain_of, resampled_precisions
from postnms.evaluation.matching import images_over_limit, match_results
from postnms.evaluation.metrics import measure
from postnms.evaluation.results import Figures
from postnms.stage.fusion import Fusion
from postnms.structures import NMS_ROW, Detections
from postnms.suppression import SUPPRESSORS, Choice, choose

BASELINE = NMS_ROW
"""The suppressor that others are compared with: greedy NMS with its default settings, on the boxes
and scores of the detector."""
Boxes = Literal["detector", "refined", "both"]
"""Boxes and scores that suppressors get: those of the detector, or those of the stage."""


@dataclass(frozen=True)
class ComparedRow:
    """One line of the table."""

    name: str
    figures: Figures
    """In per cent, by the names of :data:`postnms.evaluation.metrics.FIGURES`."""
    gain: float | None
    """AP minus the AP of the baseline. None: one of them is undefined."""
    low: float | None
    """Lower bound of the 95 % interval of the gain, by a paired bootstrap over the images. None: no
    resamples were drawn."""
    high: float | None
    """Upper bound."""
    milliseconds: float | None
    """Time for one image. None: it was not measured."""
    settings: Mapping[str, object]
    """All settings of the suppressor."""
    family: str
    """The name that the row shares with others that differ in settings alone."""
    is_variant: bool
    """Whether settings differ from the defaults of the family."""
    cut: int = 0
    """Number of images with more detections than ``max_detections``. The rest is cut."""
    uncounted: int = 0
    """Number of images with more detections of a class than COCO's evaluation counts."""


@dataclass(frozen=True)
class _Row:
    """What is known of a row before it is measured."""

    name: str
    detections: Detections
    milliseconds: float | None
    settings: Mapping[str, object]
    family: str
    is_variant: bool = False
    cut: int = 0


def compare(
    study: Study,
    choices: Sequence[Choice],
    *,
    boxes: Boxes = "detector",
    fusion: Fusion | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    done: Progress = no_progress,
) -> list[ComparedRow]:
    """Measure suppressors on the same candidates.

    Args:
        study: the candidates and their truth.
        choices: the suppressors. The baseline is always there, and first.
        boxes: what the suppressors get. With ``refined`` or ``both`` there is a row
            ``refined NAME`` for each choice, on the boxes and scores of the stage.
        fusion: how the scores of the stage are joined. None: as in the run of the candidates.
        bootstrap: number of resamples for the intervals of the gains; 0: no intervals.
        seed: seed of the resamples.
        done: called after every row.

    Returns:
        The baseline, the choices in their order, the rows that the file holds (as ``run NAME``),
        and the oracle.

    Raises:
        ValueError: a choice takes the name of the baseline with other settings.
        UserError: no stage has judged the candidates. The message names the file.
    """
    for choice in choices:
        if choice.name == BASELINE and choice.suppressor != SUPPRESSORS[BASELINE]:
            raise ValueError(
                f"choices: {BASELINE!r} is the baseline with its default settings; "
                f"give one with other settings another name"
            )
    baseline = None
    rows = []
    for row in _rows(study, choices, boxes, fusion):
        results = as_columns(row.detections, study.candidates, study.truth)
        matching = match_results(study.truth, results)
        figures = measure(study.truth, matching).figures
        precisions = resampled_precisions(matching, bootstrap, seed) if bootstrap else None
        resampled = figures["AP"], precisions
        baseline = baseline or resampled
        gain = gain_of(baseline, resampled)
        rows.append(
            ComparedRow(
                row.name,
                figures,
                gain.AP,
                gain.low,
                gain.high,
                row.milliseconds,
                row.settings,
                row.family,
                row.is_variant,
                row.cut,
                images_over_limit(results),
            )
        )
        done(1)
    return rows


def count_rows(file: CandidateFile, choices: Sequence[Choice], boxes: Boxes = "detector") -> int:
    """Return the number of rows that :func:`compare` gives."""
    return sum(map(len, _divided(choices, boxes))) + len(file.rows) + 1


def suppressors_for(file: CandidateFile) -> list[Choice]:
    """Return all named suppressors that the candidates of a file are sufficient for.

    A suppressor may need extra columns, or scores in [0, 1].
    """
    scores = [candidates.scores for _, candidates in file.chunks()]
    are_probabilities = all(bool(((part >= 0) & (part <= 1)).all()) for part in scores)
    return [
        choose(name)
        for name, suppressor in SUPPRESSORS.items()
        if set(suppressor.columns) <= set(file.extra)
        and (are_probabilities or not suppressor.needs_probabilities)
    ]


def _divided(choices: Sequence[Choice], boxes: Boxes) -> tuple[list[Choice], list[Choice]]:
    """Return what runs on the boxes of the detector, and on those of the stage, each name once."""
    once = {choice.name: choice for choice in choices}
    plain = {BASELINE: choose(BASELINE)} | ({} if boxes == "refined" else once)
    return list(plain.values()), [] if boxes == "detector" else list(once.values())


def _rows(
    study: Study, choices: Sequence[Choice], boxes: Boxes, fusion: Fusion | None
) -> Iterator[_Row]:
    """Replay one suppressor after another, so that memory holds the detections of one."""
    file = study.candidates
    plain, refined = _divided(choices, boxes)
    for choice in plain:
        yield _replayed(file, choice, "", None)
    if refined:
        fusion = fusion_of(file) if fusion is None else fusion
        for choice in refined:
            yield _replayed(file, choice, "refined ", fusion)
    for row in file.rows:
        name = f"run {row}"
        yield _Row(name, file.row(row), file.milliseconds.get(row), {}, name)
    greedy = SUPPRESSORS[BASELINE].model_dump()
    limits = {name: greedy[name] for name in ("iou_threshold", "max_detections")}
    yield _Row(ORACLE, oracle_boxes(study, **limits), None, limits, ORACLE)


def _replayed(file: CandidateFile, choice: Choice, before: str, fusion: Fusion | None) -> _Row:
    """Return the row of a suppressor, whose name has a text before it."""
    replayed = replay(file, choice.suppressor, fusion=fusion)
    return _Row(
        before + choice.name,
        replayed.detections,
        replayed.milliseconds,
        choice.suppressor.model_dump(mode="json"),
        before + choice.family,
        choice.is_variant,
        replayed.cut,
    )
