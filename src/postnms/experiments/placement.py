"""Where clusters lie before and after the stage, over the seeds (paper: Figure 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postnms.analysis.diagnosis import place_clusters
from postnms.analysis.placement import ClusterIoUs, concatenate_cluster_ious
from postnms.analysis.reports import PLACEMENT, describe_placement
from postnms.analysis.study import Study
from postnms.candidate_files.reader import open_candidates
from postnms.experiments.comparison import Comparison
from postnms.experiments.finished import FinishedRun
from postnms.experiments.steps import is_dumped
from postnms.experiments.tables import spread, table


@dataclass(frozen=True)
class Placement:
    """The clusters of the runs of an arm on the val images."""

    arm: str
    seeds: tuple[int, ...]
    """The seeds whose candidates are there."""
    before: tuple[ClusterIoUs, ...]
    """For each of the seeds, the IoUs of the clusters that have a truth."""
    after: tuple[ClusterIoUs, ...]
    """The same clusters after the stage has moved their members. Empty without a stage."""

    @property
    def sides(self) -> tuple[ClusterIoUs, ClusterIoUs | None]:
        """The IoUs of the clusters of all seeds together, before and after the stage."""
        after = concatenate_cluster_ious(self.after) if self.after else None
        return concatenate_cluster_ious(self.before), after

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold of it: means and histograms over the clusters of all seeds."""
        before, after = map(describe_placement, self.sides)
        counts = [len(part.key) for part in self.before]
        return {
            "arm": self.arm,
            "of_seeds": list(self.seeds),
            "clusters": counts,
            "before": before,
            "after": after,
        }


def placements_of(comparison: Comparison) -> list[Placement]:
    """Return the placement of clusters of all arms that ask for it and have candidates."""
    found = []
    for name, arm in comparison.plan.experiment.config.arms.items():
        runs = comparison.of_arm(name) if arm.placement else []
        sides = {run.run.seed: _place(comparison, run) for run in runs}
        there = {seed: side for seed, side in sides.items() if side is not None}
        if there:
            before = tuple(part for part, _ in there.values())
            after = tuple(part for _, part in there.values() if part is not None)
            found.append(Placement(name, tuple(there), before, after))
    return found


def _place(
    comparison: Comparison, finished: FinishedRun
) -> tuple[ClusterIoUs, ClusterIoUs | None] | None:
    """Return the IoUs of the clusters of a run. None: it has no candidates."""
    if finished.record is not None:
        return finished.record.placement
    run = finished.run
    if not is_dumped(run, run.candidates):
        return None
    return place_clusters(Study(open_candidates(run.candidates), comparison.truth(run)))


def picture(folder: Path, placement: Placement) -> Path:
    """Return the path of the picture of a placement in the folder of the records."""
    return folder / f"placement_{placement.arm}.png"


def section(placement: Placement, folder: str) -> str:
    """Return the table of the means in Markdown, and the picture.

    ``folder`` is where it lies, as links name it.
    """
    heads = ["IoU with the object of the cluster", "before the stage", "after it"]
    rows = means(placement)
    several = len(placement.seeds) > 1
    note = (
        "All clusters of which a member overlaps an object of its class. KeyIoU: of the key, which "
        "is the box that NMS keeps. MaxIoU: of the best member. AvgIoU: the mean of the members."
    )
    if several:
        note += " A cell has the mean of the seeds, their standard deviation and their range."
    image = f"![KeyIoU, MaxIoU and AvgIoU]({picture(Path(folder), placement).as_posix()})"
    return f"{table(heads, rows)}\n\n{note}\n\n{image}"


def means(placement: Placement) -> list[list[str]]:
    """Return a line for each kind of IoU, with its means before and after the stage, and a count.

    A mean is that of the clusters of a seed, and the cell tells how the seeds spread.
    """

    def cell(parts: Sequence[ClusterIoUs], field: str) -> str:
        values = [getattr(part, field) for part in parts]
        of_seeds = [value.mean().item() if len(value) else None for value in values]
        return spread(of_seeds, digits=3) if values else "-"

    rows = [
        [name, cell(placement.before, field), cell(placement.after, field)]
        for name, field in PLACEMENT.items()
    ]
    counts = [
        spread([float(len(part.key)) for part in parts], digits=0) if parts else "-"
        for parts in (placement.before, placement.after)
    ]
    return [*rows, ["number of clusters", *counts]]
