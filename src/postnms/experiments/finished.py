"""The finished runs of an experiment, with the figures that their files have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from postnms.errors import UserError
from postnms.evaluation.results import Evaluation, Figures
from postnms.experiments.plan import Plan, rows_of
from postnms.experiments.planned import PlannedRun
from postnms.experiments.recorded import Recorded, read_recorded
from postnms.experiments.sources import RowSource, sources_of
from postnms.experiments.state import check_recipe, progress_of
from postnms.experiments.steps import comparison_file, is_compared
from postnms.files.json_files import read_json
from postnms.recipes import Recipe


@dataclass(frozen=True)
class FinishedRun:
    """A run with its figures."""

    run: PlannedRun
    evaluation: Evaluation
    suppressors: Mapping[str, Mapping[str, Any]]
    """By method, the row of ``compare.json``: ``figures``, ``milliseconds``, ``settings``. Empty if
    no suppressors are replayed on the candidates of the run, or not yet."""
    sources: Mapping[str, RowSource] = field(default_factory=dict)
    """By name, where the results of the rows come from that are no rows of the run itself."""
    record: Recorded | None = None
    """The record that stands for the run. None: the run is there."""

    def has(self, row: str) -> bool:
        """Return whether a row is one of the run, or comes from its candidates."""
        known = (self.evaluation.rows, self.suppressors, self.sources, self._further)
        return any(row in rows for rows in known)

    def recorded(self, row: str) -> Figures | None:
        """Return the figures of a row of the run, or of a suppressor on its candidates.

        None: the figures are in no file, so they have to be measured.
        """
        if row in self.evaluation.rows:
            return self.evaluation.rows[row]
        if row in self.suppressors:
            return self.suppressors[row]["figures"]
        return self._further.get(row)

    def figures(self, row: str) -> Figures:
        """Return what :meth:`recorded` does, for a row whose figures are in a file."""
        found = self.recorded(row)
        if found is None:
            raise KeyError(row)
        return found

    @property
    def _further(self) -> Mapping[str, Figures]:
        return {} if self.record is None else self.record.further


def read_all_finished(plan: Plan) -> list[FinishedRun]:
    """Return the finished ones of all runs of a plan, in its order.

    Those whose folders are not there come from their records, if the plan has records.

    Raises:
        UserError: as :func:`read_finished` and :func:`read_record`, or no run is finished.
    """
    read = {"finished": read_finished, "recorded": read_record}
    progress = {run.name: progress_of(plan, run) for run in plan.runs}
    runs = [read[state](plan, run) for run in plan.runs if (state := progress[run.name]) in read]
    if not runs:
        raise UserError(f"{plan.folder}: no run of {plan.experiment.path} is finished")
    return runs


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
    methods = plan.methods_of(run.arm)
    if methods and is_compared(plan, run):
        rows = read_json(comparison_file(run))["rows"]
        suppressors = {row["name"]: row for row in rows if row["name"] in methods}
    own = Evaluation(found, evaluation.gains, evaluation.classes)
    return FinishedRun(run, own, suppressors, sources_of(plan, run))


def read_record(plan: Plan, run: PlannedRun) -> FinishedRun:
    """Return a run with the figures of its record.

    Raises:
        UserError: the record cannot be read, is of another version or lacks a row, or what lies
            beside it has another number of resamples than the experiment.
    """
    path = plan.record(run)
    assert path is not None, run.name
    recorded = read_recorded(path)
    content, methods = recorded.content, plan.methods_of(run.arm)
    try:
        named = {name: content[name] for name in ("gains", "classes")}
        evaluation = Evaluation.from_json({**content["rows"], **named})
        own = Evaluation(
            {row: evaluation.rows[row] for row in rows_of(run.recipe)},
            evaluation.gains,
            evaluation.classes,
        )
        suppressors = dict(content["suppressors"])
    except (TypeError, KeyError, AttributeError) as error:
        rows = ", ".join(rows_of(run.recipe))
        raise UserError(f"{path}: expected a record with {rows}, got another one") from error
    resamples = plan.experiment.config.bootstrap
    for row, drawn in recorded.drawn.items():
        if len(drawn) != resamples:
            raise UserError(
                f"{path}: expected {resamples} resamples, got {len(drawn)} of {row}; change the "
                "field bootstrap of the experiment, or leave --recorded out"
            )
    found = suppressors if set(methods) <= suppressors.keys() else {}
    return FinishedRun(run, own, {name: found[name] for name in methods if found}, {}, recorded)
