"""What a report says of one detector: its measured rows, and the images where they differ most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from postnms.analysis.diagnosis import place_clusters
from postnms.analysis.oracle import ORACLE
from postnms.analysis.placement import ClusterIoUs
from postnms.analysis.study import Study
from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.replays import as_columns, replay
from postnms.config import Progress, nearest, no_progress
from postnms.data.dataset import ImageId, Record, Truth
from postnms.detectors.output import ROW_TITLES
from postnms.errors import UserError
from postnms.evaluation.columns import ResultColumns
from postnms.evaluation.numbering import image_positions
from postnms.report.chosen import Chosen, choose
from postnms.report.clusters import look_up, run_detector
from postnms.report.compared import RUN
from postnms.report.measured import MeasuredRow, measure_rows
from postnms.report.sources import Source
from postnms.report.viewer import describe, name_of
from postnms.structures import NMS_ROW, POST_NMS_ROW
from postnms.suppression import SUPPRESSORS, Suppressor
from postnms.suppression import choose as choose_suppressor

MOST_ROWS = 4
"""Largest number of rows of one detector that are shown in detail."""


@dataclass(frozen=True)
class Subject:
    """One detector in the report."""

    source: Source
    rows: dict[str, MeasuredRow]
    """The rows that are shown in detail, by name, plain NMS first."""
    after: str | None
    """The row that is held against plain NMS. None: there is no other one."""
    chosen: Chosen
    cases: list[dict[str, Any]]
    """What the viewer shows of the chosen images, see :func:`postnms.report.viewer.describe`."""
    index: list[list[Any]]
    """Name, objects, AP before, AP after and position in ``cases`` of every image. None: there is
    no AP, or the image was not chosen."""
    placement: tuple[ClusterIoUs, ClusterIoUs | None] | None
    """Where the clusters of all images lie, before and after the stage. None: not all are known."""

    @property
    def truth(self) -> Truth:
        """The annotations."""
        assert self.source.truth is not None
        return self.source.truth


def title_of(row: str) -> str:
    """Return the name of a row for people."""
    return ROW_TITLES.get(row.removeprefix(RUN), row.removeprefix(RUN))


def look_at(
    source: Source,
    folder: Path,
    *,
    row: str | None = None,
    most_images: int = 24,
    bootstrap: int = 1000,
    device: torch.device | str = "cpu",
    done: Progress = no_progress,
) -> Subject:
    """Measure a source that has a truth, choose images, and gather their boxes.

    Args:
        source: from :func:`postnms.report.sources.joined`.
        folder: an empty folder for the candidates of a run without a dump.
        row: the row to hold against plain NMS. None: that of the stage, else the best suppressor.
        most_images: largest number of images that the page holds.
        bootstrap: number of resamples for the intervals; 0: no intervals.
        device: where the detector of a run computes.
        done: called with the number of images that the detector has looked at.

    Raises:
        UserError: there is no such row, or a file is not as it must be.
    """
    truth = source.truth
    assert truth is not None
    candidates = source.candidates
    if not source.results:
        assert source.run is not None
        candidates = run_detector(source.run, None, folder / "whole", device, done)
    results, suppressors = _results_of(source, candidates)
    after = _after(list(results), row)
    shown = _shown(list(results), after)
    if candidates is not None:
        _check_rows(candidates, shown, suppressors, source.name)
    rows = measure_rows(truth, {name: results[name] for name in shown}, bootstrap=bootstrap)
    other = None if after is None else rows[after].images
    chosen = choose(rows[shown[0]].images, other, most_images)
    ids = list(image_positions(truth))
    images = [ids[place] for place in chosen.all]
    file = candidates
    if file is None and source.run is not None and images:
        file = run_detector(source.run, images, folder / "chosen", device, done)
        file = file if len(file) else None  # All of these images are missing.
    found = {} if file is None else look_up(file, images, shown, suppressors)
    records = {} if source.dataset is None else _records_of(source, images)
    cases = describe(truth, images, found, records)
    for place, case in zip(chosen.all, cases, strict=True):
        case |= _figures_of(rows, place)
    index = _index(source, truth, rows, after, chosen)
    placement = None if candidates is None else place_clusters(Study(candidates, truth))
    return Subject(source, rows, after, chosen, cases, index, placement)


def _results_of(
    source: Source, candidates: CandidateFile | None
) -> tuple[dict[str, ResultColumns], dict[str, Suppressor]]:
    """Return the results of all rows, and the suppressors that give rows which no file holds."""
    truth = source.truth
    assert truth is not None
    results = dict(source.results)
    if not results and candidates is not None:
        results = {
            name: as_columns(candidates.row(name), candidates, truth) for name in candidates.rows
        }
    suppressors: dict[str, Suppressor] = {NMS_ROW: SUPPRESSORS[NMS_ROW]}
    if candidates is not None and (name := _best_suppressor(source, list(results))):
        suppressors[name] = choose_suppressor(name).suppressor
        detections = replay(candidates, suppressors[name]).detections
        results[name] = as_columns(detections, candidates, truth)
    return results, suppressors


def _best_suppressor(source: Source, have: Sequence[str]) -> str | None:
    """Return the best suppressor of a comparison besides plain NMS. None: NMS is the best."""
    lines = [
        line
        for line in source.lines
        if line.figures["AP"] is not None
        and line.name not in (ORACLE, NMS_ROW, *have)
        and not line.name.startswith((RUN, "refined "))
    ]
    best = max(lines, key=lambda line: line.figures["AP"] or 0.0, default=None)
    return None if best is None or (best.gain or 0.0) <= 0 else best.name


def _after(names: Sequence[str], row: str | None) -> str | None:
    """Return the row to hold against plain NMS. Raise UserError if a user's choice is not there."""
    others = [name for name in names if name != NMS_ROW]
    if row is not None:
        if row not in others:
            valid = nearest(row, others) if others else "there is none besides nms"
            raise UserError(f"no row {row!r} ({valid})", argument="row")
        return row
    if POST_NMS_ROW in others:
        return POST_NMS_ROW
    return others[-1] if others else None


def _shown(names: Sequence[str], after: str | None) -> list[str]:
    """Return the rows to show in detail: plain NMS, the row against it, then others."""
    first = [name for name in (NMS_ROW, after) if name is not None and name in names]
    return [*first, *(name for name in names if name not in first)][:MOST_ROWS]


def _check_rows(
    file: CandidateFile, rows: Sequence[str], suppressors: Mapping[str, Suppressor], name: str
) -> None:
    """Raise UserError if a file of candidates neither has one of the rows nor can give it.

    The results of the run ``name`` may be of another evaluation than the file.
    """
    lacks = [row for row in rows if row not in (*file.rows, *suppressors)]
    if lacks:
        raise UserError(
            f"{file.path}: no row {lacks[0]!r}, which {name} has results of; dump the run again "
            "with these settings, or leave the file out"
        )


def _records_of(source: Source, images: Sequence[ImageId]) -> dict[ImageId, Record]:
    """Return the records of some images by id."""
    assert source.dataset is not None
    wanted = set(images)
    return {record.id: record for record in source.dataset.records if record.id in wanted}


def _figures_of(rows: dict[str, MeasuredRow], place: int) -> dict[str, Any]:
    """Return what the rows reach on an image: AP, and the objects found at IoU 0.5 and 0.75."""
    return {
        "ap": {name: _number(row.images.ap[place]) for name, row in rows.items()},
        "found": {name: row.images.found[:, place].tolist() for name, row in rows.items()},
        "objects": int(next(iter(rows.values())).images.objects[place]),
    }


def _index(
    source: Source,
    truth: Truth,
    rows: dict[str, MeasuredRow],
    after: str | None,
    chosen: Chosen,
) -> list[list[Any]]:
    """Return a line for each image of the truth."""
    before = next(iter(rows.values())).images
    other = before if after is None else rows[after].images
    names = {entry["id"]: name_of(entry, None) for entry in truth.images}
    if source.dataset is not None:
        names |= {record.id: record.path.name for record in source.dataset.records}
    case_of = {place: case for case, place in enumerate(chosen.all)}
    return [
        [
            names[own],
            int(before.objects[place]),
            _number(before.ap[place]),
            _number(other.ap[place]),
            case_of.get(place),
        ]
        for place, own in enumerate(image_positions(truth))
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 1)
