"""Rows of results that come from files of candidates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.refined import check_refined, kept_keys, paper_row
from postnms.candidate_files.replays import IMAGES_AT_ONCE, as_columns, join_chunks, replay
from postnms.data.dataset import Truth
from postnms.evaluation.columns import ResultColumns
from postnms.experiments.plan import Plan, evaluation_row, rows_of
from postnms.experiments.planned import PlannedRun
from postnms.experiments.steps import is_compared, is_dumped, is_fused, is_rescored
from postnms.stage.fusion import Fusion
from postnms.structures import POST_NMS_ROW
from postnms.suppression import choose


class RowSource(Protocol):
    """Where the results of a row come from."""

    @property
    def path(self) -> Path:
        """The file of candidates."""
        ...

    def columns(self, truth: Truth) -> ResultColumns:
        """Return the results of the row as columns, numbered as in the truth."""
        ...


@dataclass(frozen=True)
class SuppressedRow:
    """What a suppressor makes of the candidates."""

    path: Path
    method: str

    def columns(self, truth: Truth) -> ResultColumns:
        """Run the suppressor."""
        file = open_candidates(self.path)
        return as_columns(replay(file, choose(self.method).suppressor).detections, file, truth)


@dataclass(frozen=True)
class FileRow:
    """A row that the file holds beside its candidates."""

    path: Path
    row: str

    def columns(self, truth: Truth) -> ResultColumns:
        """Read the row."""
        file = open_candidates(self.path)
        return as_columns(file.row(self.row), file, truth)


@dataclass(frozen=True)
class FusedRow:
    """The row of the stage with other weights of its scores, or without its boxes."""

    path: Path
    fusion: Fusion
    relocation: bool

    def columns(self, truth: Truth) -> ResultColumns:
        """Join the scores of the keys that NMS keeps."""
        file = open_candidates(self.path)
        check_refined(file)
        parts = [
            paper_row(kept_keys(file, chunk), self.fusion, relocation=self.relocation)
            for _, chunk in file.chunks(IMAGES_AT_ONCE)
        ]
        return as_columns(join_chunks(parts, len(file)), file, truth)


def sources_of(plan: Plan, run: PlannedRun) -> Mapping[str, RowSource]:
    """Return by name the rows of the candidates of a finished run, as far as they are made."""
    sources: dict[str, RowSource] = {}
    if is_compared(plan, run) and is_dumped(run, run.candidates):
        for method in plan.methods_of(run.arm):
            sources[method] = SuppressedRow(run.candidates, method)
    for name, texts in plan.experiment.config.arms[run.arm].rescorers.items():
        if is_rescored(run, name, texts):
            sources[name] = FileRow(run.rescored(name), name)
    for name, recipe in run.evaluations.items():
        rows = {row: evaluation_row(name, row) for row in rows_of(recipe)}
        if not is_fused(run, name):
            file = run.evaluated(name)
            if is_dumped(run, file, recipe):
                sources |= {title: FileRow(file, row) for row, title in rows.items()}
        elif is_dumped(run, run.candidates):
            assert recipe.stage is not None
            fused = FusedRow(run.candidates, recipe.stage.fuse, recipe.stage.relocation)
            # The stage changes nothing in what NMS keeps.
            sources |= {title: FileRow(run.candidates, row) for row, title in rows.items()}
            sources[rows[POST_NMS_ROW]] = fused
    return sources
