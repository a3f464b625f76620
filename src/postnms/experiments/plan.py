"""The runs of an experiment: their recipes, their folders and their command lines."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from postnms.errors import UserError
from postnms.experiments.config import BEST, BEST_ROW, ArmConfig, Experiment, check_known
from postnms.experiments.planned import PlannedRun
from postnms.recipes import Recipe, open_recipe, override, override_trained, parse_changes
from postnms.runs.folder import RunFolder
from postnms.structures import NMS_ROW
from postnms.suppression import choose


@dataclass(frozen=True)
class Side:
    """What a figure over the seeds is of: one row of all the runs of an arm."""

    arm: str
    row: str
    """A row of the runs, a row of their candidates, :data:`BEST_ROW` or :data:`BEST`."""


@dataclass(frozen=True)
class Plan:
    """Everything that an experiment asks for."""

    experiment: Experiment
    folder: Path
    """Folder of the experiment."""
    data: Path | None
    """The data folder, or its ``data.yaml``. None: the built-in scenes."""
    runs: tuple[PlannedRun, ...]
    """By seed. Within a seed, a run comes after the one that it starts from."""
    counted: Mapping[str, Side]
    """By arm, the row that counts."""
    differences: tuple[tuple[Side, Side], ...]
    records: Path | None = None
    """Folder of records that stand for runs whose folders are not there. None: no record does."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The suppressors to replay on the candidates of all arms of ``heuristics``."""
        heuristics = self.experiment.config.heuristics
        return () if heuristics is None else heuristics.methods

    def record(self, run: PlannedRun) -> Path | None:
        """Return the record that stands for a run if its folder is not there. None: none does."""
        path = None if self.records is None else self.records / f"{run.name}.json"
        return path if path is not None and path.is_file() else None

    def of_arm(self, arm: str) -> tuple[PlannedRun, ...]:
        """Return the runs of an arm, in the order of the seeds."""
        return tuple(run for run in self.runs if run.arm == arm)

    def rows(self, arm: str) -> tuple[str, ...]:
        """Return the rows that the runs of an arm have."""
        return rows_of(self.of_arm(arm)[0].recipe)

    def replays(self, arm: str) -> bool:
        """Return whether :attr:`methods` are replayed on the candidates of the runs of an arm."""
        heuristics = self.experiment.config.heuristics
        return heuristics is not None and arm in heuristics.arms

    def methods_of(self, arm: str) -> tuple[str, ...]:
        """Return all suppressors that are replayed on the candidates of the runs of an arm."""
        common = self.methods if self.replays(arm) else ()
        return (*common, *self.experiment.config.arms[arm].methods)

    def further_rows(self, arm: str) -> tuple[str, ...]:
        """Return the rows that come from the candidates of the runs of an arm.

        They are those of suppressors, of rescorers and of evaluations.
        """
        run = self.of_arm(arm)[0]
        evaluations = (
            evaluation_row(name, row)
            for name, recipe in run.evaluations.items()
            for row in rows_of(recipe)
        )
        rescorers = self.experiment.config.arms[arm].rescorers
        return (*self.methods_of(arm), *rescorers, *evaluations)

    def with_starts(self, arms: Collection[str]) -> set[str]:
        """Return some arms and all those that they start from."""
        found = set(arms)
        for name in reversed(_in_order(self.experiment)):
            start = self.experiment.config.arms[name].start_from
            if name in found and start is not None:
                found.add(start)
        return found


def make_plan(experiment: Experiment, folder: Path, data: Path | None = None) -> Plan:
    """Return the runs of an experiment, after a check of all that its file says.

    Args:
        experiment: the experiment.
        folder: where its runs are, one folder a run.
        data: the data in place of those of the file. None: those of the file.

    Raises:
        UserError: arms start from each other in a circle, a recipe or a change does not fit, a
            suppressor is replayed that the runs have a row of, or a difference names an arm or a
            row that there is not. The message has the line.
    """
    config = experiment.config
    if data is None and config.data is not None:
        data = Path(config.data)
    runs = []
    for seed in config.seeds:
        for arm in _in_order(experiment):
            runs.append(_plan_run(experiment, folder, data, arm, seed))
    plan = Plan(experiment, folder, data, tuple(runs), {}, ())
    _check_methods_are_new(plan)
    valid = {}
    for name in config.arms:
        best = (BEST,) if plan.replays(name) else ()
        valid[name] = [*plan.rows(name), BEST_ROW, *best, *plan.further_rows(name)]
    counted = {}
    for name, arm in config.arms.items():
        row = plan.rows(name)[-1] if arm.row is None else arm.row
        _check_row(experiment, ("arms", name, "row"), name, row, valid)
        counted[name] = Side(name, row)
    differences = tuple(
        (_side(experiment, counted, valid, number, 0), _side(experiment, counted, valid, number, 1))
        for number in range(len(config.differences))
    )
    return replace(plan, counted=counted, differences=differences)


def _check_methods_are_new(plan: Plan) -> None:
    """Raise UserError if a suppressor that is replayed has the name of a row of the runs."""
    experiment = plan.experiment
    for arm in experiment.config.arms:
        own = plan.rows(arm)
        for method in plan.methods_of(arm):
            if method in own:
                where = ("heuristics",) if method in plan.methods else ("arms", arm, "methods")
                raise experiment.mistake(
                    where, f"{method} is a row of the runs of {arm} already, by their suppressors"
                )


def evaluation_row(name: str, row: str) -> str:
    """Return the name of a row of an evaluation.

    Example:
        >>> evaluation_row("mean", "nms")
        'mean:nms'
    """
    return f"{name}:{row}"


def rows_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the rows of the runs of a recipe."""
    of_stage = () if recipe.stage is None else recipe.stage.rows
    suppressors = (choose(text).family for text in recipe.suppressors)
    return (NMS_ROW, *suppressors, *recipe.heads.rows, *of_stage)


def _in_order(experiment: Experiment) -> Sequence[str]:
    """Return the arms in the order of the file, but each after the arm that it starts from."""
    waiting = dict(experiment.config.arms)
    ordered: list[str] = []
    while waiting:
        ready = (name for name, arm in waiting.items() if arm.start_from in (None, *ordered))
        name = next(ready, None)
        if name is None:
            first = next(iter(waiting))
            circle = ", ".join(waiting)
            raise experiment.mistake(
                ("arms", first, "start_from"),
                f"expected arms that do not wait for each other, got a circle in {circle}",
            )
        ordered.append(name)
        del waiting[name]
    return ordered


def _plan_run(
    experiment: Experiment, folder: Path, data: Path | None, name: str, seed: int
) -> PlannedRun:
    """Return a run with the recipe that ``postnms train`` will make from its command line."""
    config = experiment.config
    arm = config.arms[name]
    out = folder / f"{name}_{seed}"
    start = None if arm.start_from is None else folder / f"{arm.start_from}_{seed}"
    where = ("recipe",) if arm.recipe is None else ("arms", name, "recipe")
    recipe = config.recipe if arm.recipe is None else arm.recipe
    try:
        base = open_recipe(recipe)
    except UserError as error:
        raise experiment.mistake(where, str(error)) from error
    texts = (*config.set, *arm.set, f"seed={seed}")
    given: dict[str, Any] = {
        "training.start_from": start and str(start),
        "training.freeze": arm.freeze,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    _check_changes(experiment, ("set",), config.set)
    _check_changes(experiment, ("arms", name, "set"), arm.set)
    changed = _change(experiment, name, base, changes, texts)
    words = ["train", recipe, *data_words(data), "--out", str(out)]
    words += [] if start is None else ["--from", str(start)]
    words += [] if arm.freeze is None else ["--freeze", arm.freeze]
    words += [word for text in texts for word in ("--set", text)]
    evaluations = {
        evaluation: _evaluation(experiment, name, evaluation, changed)
        for evaluation in arm.evaluations
    }
    return PlannedRun(name, seed, RunFolder(out), base, changed, tuple(words), start, evaluations)


def _evaluation(experiment: Experiment, arm: str, name: str, recipe: Recipe) -> Recipe:
    """Return the recipe of an evaluation of a run, as ``postnms dump`` makes it from its options.

    ``recipe`` is that of the run.
    """
    texts = experiment.config.arms[arm].evaluations[name]
    where = ("arms", arm, "evaluations", name)
    _check_changes(experiment, where, texts)
    try:
        return override_trained(recipe, parse_changes(texts))
    except UserError as error:
        raise experiment.mistake(where, error.args[0]) from error


def _change(
    experiment: Experiment, name: str, base: Recipe, given: dict[str, Any], texts: Sequence[str]
) -> Recipe:
    """Return the recipe of an arm, as ``postnms train`` makes it from its options.

    ``given`` are the changes by other options than ``--set``. Raises UserError that names the first
    of the ``texts`` without which the recipe would fit.
    """
    try:
        return override(base, given | parse_changes(texts))
    except UserError as error:
        counts = range(len(texts) + 1)
        count = next(n for n in counts if not _fits(base, given | parse_changes(texts[:n])))
        common = len(experiment.config.set)
        where = ("arms", name, "set", str(count - common - 1))
        if count <= common:
            where = ("set", str(count - 1)) if count else ("arms", name)
        raise experiment.mistake(where, error.args[0]) from error


def _fits(recipe: Recipe, changes: dict[str, Any]) -> bool:
    try:
        override(recipe, changes)
    except UserError:
        return False
    return True


def data_words(data: Path | None) -> list[str]:
    """Return the option that tells a verb where the data are."""
    return [] if data is None else ["--data", str(data)]


def _check_changes(experiment: Experiment, where: tuple[str, ...], texts: Sequence[str]) -> None:
    """Raise UserError if a change has another form than PATH=VALUE, or sets the seed."""
    for number, text in enumerate(texts):
        here = (*where, str(number))
        try:
            change = parse_changes([text])
        except UserError as error:
            raise experiment.mistake(here, str(error.args[0])) from error
        if "seed" in change:
            raise experiment.mistake(here, "the field seeds has the seeds")


def _side(
    experiment: Experiment,
    counted: Mapping[str, Side],
    valid: Mapping[str, list[str]],
    number: int,
    position: int,
) -> Side:
    """Return a side of a difference. Raise UserError unless its arm and its row are there."""
    text = experiment.config.differences[number][position]
    where = ("differences", str(number), str(position))
    arm, dot, row = text.partition(".")
    check_known(experiment, where, arm, list(counted), "arm")
    if not dot:
        return counted[arm]
    _check_row(experiment, where, arm, row, valid)
    return Side(arm, row)


def _check_row(
    experiment: Experiment,
    where: Sequence[str],
    arm: str,
    row: str,
    valid: Mapping[str, list[str]],
) -> None:
    """Raise UserError unless a row is one of the valid ones of an arm."""
    if row == BEST and row not in valid[arm]:
        raise experiment.mistake(where, f"{BEST} needs {arm} among the arms of heuristics")
    check_known(experiment, where, row, valid[arm], f"row of the arm {arm}:")


_TRAINED = {
    "none": "everything is trained",
    "detector": "only the stage and the heads are trained",
    "detector_and_stage": "only the heads are trained",
}
"""What an arm trains, by its field ``freeze``."""


def describe_arm(arm: ArmConfig) -> str:
    """Return in Markdown how an arm differs from the recipe of its experiment."""
    parts = [] if arm.recipe is None else [f"recipe `{arm.recipe}`"]
    if arm.start_from is not None:
        parts.append(f"starts from the weights of `{arm.start_from}` of the same seed")
    if arm.freeze is not None:
        parts.append(_TRAINED[arm.freeze])
    parts += [f"`{text}`" for text in arm.set]
    return "; ".join(parts) or "nothing"
