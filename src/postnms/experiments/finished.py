"""The finished runs of an experiment: their figures, and what is measured anew from them."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.replays import as_columns, replay
from postnms.data.dataset import Truth
from postnms.data.splits import find_truth, open_dataset
from postnms.errors import UserError
from postnms.evaluation.matching import Matching, match_results
from postnms.evaluation.metrics import measure
from postnms.evaluation.results import Evaluation, Figures
from postnms.experiments.config import BEST
from postnms.experiments.differences import Difference, Resampled, paired_difference, resample
from postnms.experiments.plan import Plan, PlannedRun, Side, rows_of
from postnms.experiments.state import check_recipe, comparison_file
from postnms.files.json_files import read_json
from postnms.recipes import Recipe
from postnms.runs.folder import read_categories
from postnms.suppression import choose

_SLACK = 1e-6
"""Largest difference, in per cent, between an AP that is read and the same AP measured again."""


@dataclass(frozen=True)
class FinishedRun:
    """A run with its figures."""

    run: PlannedRun
    evaluation: Evaluation
    suppressors: Mapping[str, Mapping[str, Any]]
    """By method, the row of ``compare.json``: ``figures``, ``milliseconds``, ``settings``."""

    def figures(self, row: str) -> Figures:
        """Return the figures of a row of the run, or of a suppressor on its candidates."""
        if row in self.evaluation.rows:
            return self.evaluation.rows[row]
        return self.suppressors[row]["figures"]


def read_finished(plan: Plan, run: PlannedRun) -> FinishedRun:
    """Return a run with the figures that its files have.

    Raises:
        UserError: a file cannot be read or lacks a row, or ``postnms eval`` has replaced the
            figures by those of other settings.
    """
    folder = run.folder
    if folder.evaluation.is_file():
        again = read_json(folder.evaluation)
        where = f"{folder.evaluation}: the last 'postnms eval'"
        check_recipe(run, Recipe.parse(again.get("recipe", {}), where), where)
    try:
        evaluation = Evaluation.from_json(read_json(folder.metrics))
        found = {row: evaluation.rows[row] for row in rows_of(run.recipe)}
    except (TypeError, KeyError, AttributeError) as error:
        rows = ", ".join(rows_of(run.recipe))
        raise UserError(f"{folder.metrics}: expected the figures of {rows}, got others") from error
    suppressors = {}
    if plan.replays(run):
        rows = read_json(comparison_file(run))["rows"]
        suppressors = {row["name"]: row for row in rows if row["name"] in plan.methods}
    return FinishedRun(run, Evaluation(found, evaluation.gain, evaluation.classes), suppressors)


def best_method(runs: Sequence[FinishedRun], methods: Sequence[str]) -> str:
    """Return the suppressor with the best mean AP over runs, the first of equal ones.

    An undefined AP counts as the lowest.
    """

    def mean(method: str) -> float:
        values = [run.figures(method)["AP"] for run in runs]
        return math.fsum(-1.0 if value is None else value for value in values) / len(values)

    return max(methods, key=mean)


class Comparison:
    """The finished runs of a plan, and the differences between them.

    What is matched for one difference is kept for the next one.

    Args:
        plan: the plan, all of whose runs are finished.
        runs: its runs, in the same order.
    """

    def __init__(self, plan: Plan, runs: Sequence[FinishedRun]) -> None:
        self.plan = plan
        self.runs = runs
        self._resampled: dict[Side, Resampled] = {}
        self._truths: dict[str, tuple[Truth, str]] = {}
        self._digests: list[str] = []

    @property
    def best(self) -> str | None:
        """The suppressor with the best mean AP. None: no suppressors are replayed."""
        heuristics = self.plan.experiment.config.heuristics
        if heuristics is None:
            return None
        return best_method(self.of_arm(heuristics.arm), heuristics.methods)

    def of_arm(self, arm: str) -> list[FinishedRun]:
        """Return the runs of an arm, in the order of the seeds."""
        return [run for run in self.runs if run.run.arm == arm]

    def truth(self, run: PlannedRun) -> Truth:
        """Return the annotations of the val split of a run, with its classes."""
        return self._open(run)[0]

    def image_set(self, run: PlannedRun) -> int:
        """Return a number that is the same for runs which are measured on the same images."""
        digest = self._open(run)[1]
        if digest not in self._digests:
            self._digests.append(digest)
        return self._digests.index(digest)

    def _open(self, run: PlannedRun) -> tuple[Truth, str]:
        """Return the annotations of the val split of a run, and what tells them from others."""
        config, seed = run.recipe.data, run.seed
        names = {"train_annotations", "val_annotations", "val_fraction", "scenes"}
        of_seed = self.plan.data is None or config.val_fraction is not None
        key = f"{config.model_dump_json(include=names)} {seed if of_seed else ''}"
        if key not in self._truths:
            if self.plan.data is None:
                truth = open_dataset(config, None, "val", seed).truth
            else:
                truth = find_truth(self.plan.data, "val", config, seed)
            truth = truth.with_categories(read_categories(run.folder))
            self._truths[key] = truth, _digest(truth)
        return self._truths[key]

    def differences(self) -> list[Difference]:
        """Return the differences of the plan, in its order.

        Raises:
            UserError: the two sides of a difference are measured on other images, or results give
                another AP than the one that was recorded with them.
        """
        return [self._difference(left, right) for left, right in self.plan.differences]

    def named(self, side: Side) -> Side:
        """Return a side with the name of the suppressor in place of ``best_heuristic``."""
        best = self.best
        return Side(side.arm, best) if side.row == BEST and best is not None else side

    def _difference(self, left: Side, right: Side) -> Difference:
        for one, other in zip(self.of_arm(left.arm), self.of_arm(right.arm), strict=True):
            if self.image_set(one.run) != self.image_set(other.run):
                raise UserError(
                    f"{one.run.folder.root} and {other.run.folder.root}: expected runs on the same "
                    "val images, got others"
                )
        return paired_difference(self._side(self.named(left)), self._side(self.named(right)))

    def _side(self, side: Side) -> Resampled:
        if side not in self._resampled:
            runs = self.of_arm(side.arm)
            matchings = [self._match(run, side.row) for run in runs]
            image_sets = [self.image_set(run.run) for run in runs]
            resamples = self.plan.experiment.config.bootstrap
            self._resampled[side] = resample(matchings, image_sets, resamples)
        return self._resampled[side]

    def _match(self, finished: FinishedRun, row: str) -> Matching:
        """Match the results of a row, or of a suppressor, to the truth."""
        run = finished.run
        truth = self.truth(run)
        if row in finished.evaluation.rows:
            source = run.folder.results(row)
            results = read_json(source)
        else:
            source = run.candidates
            file = open_candidates(source)
            results = as_columns(replay(file, choose(row).suppressor).detections, file, truth)
        try:
            matching = match_results(truth, results)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{source}: does not fit {truth.source} ({error})") from error
        found, recorded = measure(truth, matching).figures["AP"], finished.figures(row)["AP"]
        if (found is None) != (recorded is None) or abs((found or 0) - (recorded or 0)) > _SLACK:
            raise UserError(
                f"{source}: gives {found} AP for {row} on {truth.source}, and {recorded} is "
                "recorded: the annotations or the results have changed since"
            )
        return matching


def _digest(truth: Truth) -> str:
    """Return a hash, in hexadecimal, of the ids of images and of the numbers of all objects."""
    digest = hashlib.sha256(json.dumps([entry["id"] for entry in truth.images]).encode())
    objects = truth.objects
    for column in (objects.image, objects.category, objects.boxes, objects.area, objects.crowd):
        digest.update(column.tobytes())
    return digest.hexdigest()
