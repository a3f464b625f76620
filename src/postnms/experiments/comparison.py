"""The finished runs of an experiment side by side, with intervals over images and seeds."""

import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.data.splits import find_truth, open_dataset
from postnms.errors import UserError
from postnms.evaluation.matching import Matching, match_results
from postnms.evaluation.metrics import measure
from postnms.evaluation.results import Figures
from postnms.experiments.config import BEST, BEST_ROW
from postnms.experiments.finished import FinishedRun
from postnms.experiments.intervals import (
    Estimate,
    Resampled,
    mean_precision,
    paired_difference,
    resample,
)
from postnms.experiments.plan import Plan, Side, evaluation_row
from postnms.experiments.planned import PlannedRun
from postnms.experiments.recorded import ValSet, as_kept
from postnms.experiments.steps import is_dumped
from postnms.files.json_files import read_json
from postnms.runs.folder import read_categories
from postnms.structures import NMS_ROW

_SLACK = 1e-6
"""Largest difference, in per cent, between an AP that is read and the same AP measured again."""


def best_of(runs: Sequence[FinishedRun], rows: Sequence[str]) -> str:
    """Return the row with the best mean AP over runs, the first of equal ones.

    A row may be that of a suppressor. An undefined AP counts as the lowest.
    """

    def mean(row: str) -> float:
        values = [run.figures(row)["AP"] for run in runs]
        return math.fsum(-1.0 if value is None else value for value in values) / len(values)

    return max(rows, key=mean)


class Comparison:
    """The finished runs of a plan, and what follows from them.

    What is matched for one figure is kept for the next one.

    Args:
        plan: the plan.
        runs: those of its runs that are finished, in its order, at least one.
    """

    def __init__(self, plan: Plan, runs: Sequence[FinishedRun]) -> None:
        self.plan = plan
        self.runs = runs
        self._records = {run.run.name: run.record for run in runs}
        self._resampled: dict[tuple[Side, int], Resampled] = {}
        self._truths: dict[str, Truth] = {}
        self._val_sets: dict[str, ValSet] = {}
        self._digests: list[str] = []
        self._measured: dict[tuple[str, str], Figures] = {}

    @property
    def missing(self) -> list[str]:
        """Names of the runs that are not finished, and of those without all of their rows."""
        finished = {finished.run.name: finished for finished in self.runs}
        said = [run.name for run in self.plan.runs if run.name not in finished]
        for name, run in finished.items():
            arm = run.run.arm
            lacks = [row for row in self.plan.further_rows(arm) if not run.has(row)]
            if any(method in lacks for method in self.plan.methods_of(arm)):
                said.append(f"the suppressors on {name}")
            if self.plan.experiment.config.arms[arm].placement and not _has_clusters(run):
                said.append(f"the candidates of {name}")
            rescorers = self.plan.experiment.config.arms[arm].rescorers
            said += [f"the rescorer {row} on {name}" for row in rescorers if row in lacks]
            said += [
                f"the evaluation {evaluation} of {name}"
                for evaluation in run.run.evaluations
                if evaluation_row(evaluation, NMS_ROW) in lacks
            ]
        return said

    def of_arm(self, arm: str) -> list[FinishedRun]:
        """Return the finished runs of an arm, in the order of the seeds."""
        return [run for run in self.runs if run.run.arm == arm]

    def of_side(self, side: Side) -> list[FinishedRun]:
        """Return those of the finished runs of an arm that have a row, in the order of the seeds.

        The row must be :meth:`named`.
        """
        return [run for run in self.of_arm(side.arm) if run.has(side.row)]

    def seeds(self, *sides: Side) -> list[int]:
        """Return the seeds for which all of some sides are there, in the order of the file."""
        each = [{run.run.seed for run in self.of_side(self.named(side))} for side in sides]
        return [s for s in self.plan.experiment.config.seeds if all(s in part for part in each)]

    def best(self, arm: str) -> str | None:
        """Return the suppressor with the best mean AP on the candidates of the runs of an arm.

        It is one of ``heuristics``. None: they are not replayed on them, or not yet.
        """
        runs = [run for run in self.of_arm(arm) if run.suppressors and self.plan.replays(arm)]
        return best_of(runs, self.plan.methods) if runs else None

    def named(self, side: Side) -> Side:
        """Return a side with the name of a row in place of ``best`` and of ``best_heuristic``.

        It stays as it is if nothing is finished that the best could be chosen from.
        """
        row = side.row
        if row == BEST:
            row = self.best(side.arm) or row
        elif row == BEST_ROW and (runs := self.of_arm(side.arm)):
            row = best_of(runs, self.plan.rows(side.arm))
        return Side(side.arm, row)

    def precision(self, side: Side) -> Estimate | None:
        """Return AP of a side, for each of its :meth:`seeds`. None: nothing of it is finished."""
        seeds = self.seeds(side)
        return mean_precision(self._of_seeds(self.named(side), seeds)) if seeds else None

    def figures(self, finished: FinishedRun, row: str) -> Figures:
        """Return all figures of a row of a run. They are measured if no file has them."""
        found = finished.recorded(row)
        key = finished.run.name, row
        if found is None and key not in self._measured:
            matching = self._match(finished, row)
            self._measured[key] = measure(self.truth(finished.run), matching).figures
        return self._measured[key] if found is None else found

    def difference(self, left: Side, right: Side) -> Estimate | None:
        """Return AP of a side minus AP of another one, for each of their common :meth:`seeds`.

        None: there is no such seed.

        Raises:
            UserError: the sides are measured on other images, or results give another AP than the
                one that was recorded with them.
        """
        seeds = self.seeds(left, right)
        if not seeds:
            return None
        sides = [self.named(side) for side in (left, right)]
        for seed in seeds:
            one, other = (self._run(side, seed).run for side in sides)
            if self.image_set(one) != self.image_set(other):
                raise UserError(
                    f"{one.folder.root} and {other.folder.root}: expected runs on the same val "
                    "images, got others"
                )
        before, after = (self._of_seeds(side, seeds) for side in reversed(sides))
        return paired_difference(after, before)

    def val_set(self, run: PlannedRun) -> ValSet:
        """Return what tells the val images of a run from others."""
        record = self._records.get(run.name)
        if record is not None:
            return record.val
        key = self._images_of(run)
        if key not in self._val_sets:
            self._val_sets[key] = _describe(self.truth(run))
        return self._val_sets[key]

    def image_set(self, run: PlannedRun) -> int:
        """Return a number that is the same for runs which are measured on the same images."""
        digest = self.val_set(run).digest
        if digest not in self._digests:
            self._digests.append(digest)
        return self._digests.index(digest)

    def truth(self, run: PlannedRun) -> Truth:
        """Return the annotations of the val split of a run, with its classes.

        The run must be there: its record does not have them.
        """
        config, seed, key = run.recipe.data, run.seed, self._images_of(run)
        if key not in self._truths:
            if self.plan.data is None:
                truth = open_dataset(config, None, "val", seed).truth
            else:
                truth = find_truth(self.plan.data, "val", config, seed)
            self._truths[key] = truth.with_categories(read_categories(run.folder))
        return self._truths[key]

    def resampled(self, finished: FinishedRun, row: str) -> Resampled:
        """Return AP of a row of a run on all images and on drawn ones.

        They are the same for a run and for the record that stands for it.

        Raises:
            UserError: the results do not fit the images or the figures of the run, or the record
                that stands for the run has no resamples of the row.
        """
        run = finished.run
        key = Side(run.arm, row), run.seed
        if key not in self._resampled:
            drawn = self._draw(finished, row) if finished.record is None else _drawn(finished, row)
            ap = self.figures(finished, row)["AP"]
            on_all = np.array([np.nan if ap is None else ap])
            self._resampled[key] = Resampled(on_all, drawn[np.newaxis])
        return self._resampled[key]

    def _draw(self, finished: FinishedRun, row: str) -> NDArray[np.float64]:
        config, run = self.plan.experiment.config, finished.run
        # Runs of one seed draw the same images. So do all runs if their images are the same. No
        # other seed of the experiment counts, since a record keeps its draws.
        number = run.seed if self._has_own_images(run) else 0
        return as_kept(resample([self._match(finished, row)], [number], config.bootstrap).drawn[0])

    def _has_own_images(self, run: PlannedRun) -> bool:
        """Return whether the val images of a run depend on its seed."""
        return self.plan.data is None or run.recipe.data.val_fraction is not None

    def _images_of(self, run: PlannedRun) -> str:
        """Return what decides on the val images of a run."""
        names = {"train_annotations", "val_annotations", "val_fraction", "scenes"}
        text = run.recipe.data.model_dump_json(include=names)
        return f"{text} {run.seed if self._has_own_images(run) else ''}"

    def _run(self, side: Side, seed: int) -> FinishedRun:
        return next(run for run in self.of_side(side) if run.run.seed == seed)

    def _of_seeds(self, side: Side, seeds: Sequence[int]) -> Resampled:
        """Return AP of a side on all images and on drawn ones, for some seeds."""
        parts = [self.resampled(self._run(side, seed), side.row) for seed in seeds]
        return Resampled(
            np.concatenate([part.ap for part in parts]),
            np.concatenate([part.drawn for part in parts]),
        )

    def _match(self, finished: FinishedRun, row: str) -> Matching:
        """Match the results of a row to the truth.

        Raises UserError if they do not fit it, or give another AP than the one that is recorded.
        """
        run = finished.run
        truth = self.truth(run)
        source = None if row in finished.evaluation.rows else finished.sources[row]
        path = run.folder.results(row) if source is None else source.path
        try:
            results = read_json(path) if source is None else source.columns(truth)
            matching = match_results(truth, results)
        except UserError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: does not fit {truth.source} ({error})") from error
        recorded = finished.recorded(row)
        if recorded is not None:
            found, before = measure(truth, matching).figures["AP"], recorded["AP"]
            if (found is None) != (before is None) or abs((found or 0) - (before or 0)) > _SLACK:
                raise UserError(
                    f"{path}: gives {found} AP for {row} on {truth.source}, and {before} is "
                    "recorded: the annotations or the results have changed since"
                )
        return matching


def _has_clusters(finished: FinishedRun) -> bool:
    """Return whether the placement of the clusters of a run can be shown."""
    if finished.record is not None:
        return finished.record.placement is not None
    return is_dumped(finished.run, finished.run.candidates)


def _drawn(finished: FinishedRun, row: str) -> NDArray[np.float64]:
    """Return AP of a row on drawn images as the record that stands for a run has it."""
    assert finished.record is not None
    if row not in finished.record.drawn:
        raise UserError(
            f"the record of {finished.run.name} has no resamples of {row}; make the page where the "
            "run is, or leave --recorded out"
        )
    return finished.record.drawn[row]


def _describe(truth: Truth) -> ValSet:
    """Return what tells annotations from others."""
    objects = int((~truth.objects.crowd).sum())
    return ValSet(_digest(truth), len(truth.images), objects, len(truth.categories))


def _digest(truth: Truth) -> str:
    """Return a hash, in hexadecimal, of the ids of images and of the numbers of all objects."""
    digest = hashlib.sha256(json.dumps([entry["id"] for entry in truth.images]).encode())
    objects = truth.objects
    for column in (objects.image, objects.category, objects.boxes, objects.area, objects.crowd):
        digest.update(column.tobytes())
    return digest.hexdigest()
