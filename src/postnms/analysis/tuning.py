"""Which weights of the three scores of the stage give the highest AP, on the candidates of a file.

d: keys that NMS keeps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from postnms.analysis.study import Study
from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.refined import (
    check_refined,
    fusion_of,
    kept_keys,
    paper_row,
    refined,
)
from postnms.candidate_files.replays import IMAGES_AT_ONCE, as_columns, join_chunks
from postnms.config import Progress, no_progress
from postnms.errors import UserError
from postnms.evaluation.matching import match_results
from postnms.evaluation.metrics import measure
from postnms.stage.fusion import Fusion
from postnms.structures import POST_NMS_ROW, Candidates, Detections, suppressed_row
from postnms.suppression import Choice


@dataclass(frozen=True)
class Tuned:
    """A row of results with the weights that were tried for it."""

    row: str
    """Its name in the results of a run: ``post_nms`` or ``post_nms+NAME``."""
    choice: Choice | None
    """The suppressor. None: the row is that of the paper."""
    before: float | None
    """AP in per cent with the weights of the run. None: there are no objects."""
    tried: tuple[tuple[Fusion, float | None], ...]
    """All weights and their AP in per cent, the best first. Equal ones stay in the order of
    :func:`fusions`, where much weight on the score of the detector comes first."""

    @property
    def best(self) -> Fusion:
        """The weights with the highest AP."""
        return self.tried[0][0]

    @property
    def rank(self) -> float:
        """The highest AP, to compare rows by; below all others if it is undefined."""
        return _rank(self.tried[0][1])


def _rank(precision: float | None) -> float:
    return -1.0 if precision is None else precision


def fusions(steps: int, of_clusters: bool) -> tuple[Fusion, ...]:
    """Return all weights that are multiples of ``1 / steps``, at least 0, with the sum 1.

    Args:
        steps: number of parts of the sum, at least 1.
        of_clusters: whether the score of the cluster may have a weight.

    Returns:
        The arithmetic means, then the geometric means of two or more scores. Each group begins with
        the weight of the detector's score alone.
    """
    weights = [
        (ori / steps, clu / steps, (steps - ori - clu) / steps)
        for ori in range(steps, -1, -1)
        for clu in (range(steps - ori + 1) if of_clusters else (0,))
    ]
    # A mean of one score is that score, whichever mean it is.
    mixed = [parts for parts in weights if max(parts) < 1]
    return (
        *(Fusion(parts) for parts in weights),
        *(Fusion(parts, "geometric") for parts in mixed),
    )


def count_tries(choices: Sequence[Choice], steps: int) -> int:
    """Return how often :func:`tune_fusion` measures an AP."""
    rows = (True, *(False for _ in choices))
    return sum(len(fusions(steps, of_clusters)) + 1 for of_clusters in rows)


def tune_fusion(
    study: Study, choices: Sequence[Choice], *, steps: int = 10, done: Progress = no_progress
) -> list[Tuned]:
    """Measure the results of the stage with many weights of its scores.

    No network runs: the file has what the stage says of each candidate. All candidates are in
    memory together.

    Args:
        study: candidates of a run with a stage, and their truth. To be honest, both should be of
            images that neither trained the run nor will measure it.
        choices: suppressors that run on the boxes of the stage.
        steps: weights are multiples of ``1 / steps``, at least 1.
        done: called after every AP that was measured.

    Returns:
        The row of the paper, then one for each choice, in their order.

    Raises:
        UserError: no stage has judged the candidates, or a suppressor cannot run on them. The
            message names the file.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    file = study.candidates
    check_refined(file)
    own = fusion_of(file)
    chunks = [candidates for _, candidates in file.chunks(IMAGES_AT_ONCE)]
    tuned = []
    for choice in (None, *choices):
        run = _paper(file, chunks) if choice is None else _suppressed(file, chunks, choice)
        row = POST_NMS_ROW if choice is None else suppressed_row(choice.family)
        before = _precision(study, run(own))
        done(1)
        tried = []
        for fusion in fusions(steps, of_clusters=choice is None):
            tried.append((fusion, _precision(study, run(fusion))))
            done(1)
        tried.sort(key=lambda pair: _rank(pair[1]), reverse=True)
        tuned.append(Tuned(row, choice, before, tuple(tried)))
    return tuned


Run = Callable[[Fusion], Iterator[Detections]]
"""Gives the detections of each chunk with the scores that a fusion makes."""


def _paper(file: CandidateFile, chunks: Sequence[Candidates]) -> Run:
    """Return the row of the paper: the keys of NMS with new boxes and scores."""
    kept = [kept_keys(file, chunk) for chunk in chunks]

    def run(fusion: Fusion) -> Iterator[Detections]:
        for keys in kept:
            yield paper_row(keys, fusion)

    return run


def _suppressed(file: CandidateFile, chunks: Sequence[Candidates], choice: Choice) -> Run:
    """Return the row of a suppressor on the boxes of the stage."""

    def run(fusion: Fusion) -> Iterator[Detections]:
        try:
            for chunk in chunks:
                yield choice.suppressor(refined(chunk, fusion))
        except ValueError as error:
            raise UserError(f"{file.path}: {choice.name}: {error}") from error

    return run


def _precision(study: Study, parts: Iterator[Detections]) -> float | None:
    """Return the AP in per cent of the detections of all chunks."""
    file = study.candidates
    results = as_columns(join_chunks(parts, len(file)), file, study.truth)
    return measure(study.truth, match_results(study.truth, results)).figures["AP"]
