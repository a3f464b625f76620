"""How far the runs of an experiment are, as their folders say, and what is left to do."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from postnms.errors import UserError
from postnms.experiments.plan import Plan, data_words
from postnms.experiments.planned import PlannedRun
from postnms.experiments.steps import steps_of
from postnms.files.json_files import parse_json, read_json
from postnms.recipes import Recipe
from postnms.runs.folder import read_data_folder, read_recipe
from postnms.runs.provenance import BUILT_IN

Progress = Literal["new", "stopped", "finished", "recorded"]
"""``new``: nothing is there to go on from. ``stopped``: there is a checkpoint to go on from.
``recorded``: the run is not there, and its record stands for it."""


@dataclass(frozen=True)
class Job:
    """One command of an experiment."""

    words: tuple[str, ...]
    """The command line without the program."""
    makes: Path
    """The file or folder that the command writes, which also names the job."""
    log: Path
    """File to which what the command prints is appended."""
    after: Path | None = None
    """What another job makes first. None: the job can begin at once."""


def jobs_of(plan: Plan, only: Collection[str] = ()) -> list[Job]:
    """Return what is left to do, each job after the one that it waits for.

    Args:
        plan: the plan.
        only: arms whose jobs are returned, with those of the arms that they start from. Empty: all.

    Raises:
        UserError: a folder holds a run of another recipe or of other data than those of the plan,
            or files of it cannot be read.
    """
    jobs: list[Job] = []
    before: dict[Path, Path] = {}
    arms = plan.with_starts(only or plan.counted)
    for run in plan.runs:
        if run.arm not in arms:
            continue
        root = run.folder.root
        progress = progress_of(plan, run)
        if progress == "recorded":
            continue
        _check_start(plan, run, progress, jobs)
        if progress != "finished":
            resumed = ("train", "--resume", str(root), *data_words(plan.data))
            words = run.words if progress == "new" else resumed
            jobs.append(Job(words, root, run.log, run.after))
        steps = steps_of(plan, run)
        before |= {step.makes: step.after for step in steps}
        jobs += [
            Job(step.words, step.makes, run.log, step.after)
            for step in steps
            if progress != "finished" or not step.is_done()
        ]
    open_jobs = {job.makes for job in jobs}
    return [
        Job(job.words, job.makes, job.log, _nearest(job.after, before, open_jobs)) for job in jobs
    ]


def _nearest(
    after: Path | None, before: Mapping[Path, Path], open_jobs: Collection[Path]
) -> Path | None:
    """Return the nearest open job that must come first, from ``after`` on. None: there is none.

    ``before`` says for what each step makes what is made before it.
    """
    while after is not None and after not in open_jobs:
        after = before.get(after)
    return after


def _check_start(plan: Plan, run: PlannedRun, progress: Progress, jobs: Sequence[Job]) -> None:
    """Raise UserError if a run cannot be that of its start.

    It is there, and its start is still to be trained: it began with other weights than those that
    the training will give. Or it is still to be trained, and its start has a record alone.
    """
    start = next((other for other in plan.runs if other.folder.root == run.after), None)
    if progress == "new" and start is not None and progress_of(plan, start) == "recorded":
        raise UserError(
            f"{run.folder.root}: starts from {run.after}, of which only the record is there; leave "
            "--recorded out to train both"
        )
    if progress != "new" and run.after in [job.makes for job in jobs]:
        raise UserError(
            f"{run.folder.root}: started from weights that {run.after} does not have any more; "
            "remove the folder, or name another one"
        )


def progress_of(plan: Plan, run: PlannedRun) -> Progress:
    """Return how far a run is.

    Raises:
        UserError: its folder or its record holds a run of another recipe or of other data, or
            cannot be read.
    """
    folder = run.folder
    has_checkpoint = folder.checkpoint.is_file() or folder.older_checkpoint.is_file()
    if not has_checkpoint and not folder.weights.is_file():
        record = plan.record(run)
        if record is None:
            return "new"
        _check_record(plan, run, record)
        return "recorded"
    check_recipe(run, read_recipe(folder), str(folder.root))
    data = read_data_folder(folder)
    _check_data(plan, None if data is None else data.resolve().name, folder.root)
    is_measured = folder.weights.is_file() and folder.metrics.is_file()
    if is_measured and not (folder.checkpoint.is_file() and _is_midway(folder.checkpoint)):
        return "finished"
    return "stopped" if has_checkpoint else "new"


def _check_data(plan: Plan, name: str | None, where: Path) -> None:
    """Raise UserError unless data have the name of those of a plan. None: the built-in scenes."""
    expected = None if plan.data is None else plan.data.resolve().name
    if expected != name:
        here, there = (part or "the built-in scenes" for part in (expected, name))
        raise UserError(
            f"{where}: expected a run on {here}, got one on {there}; remove it, or name another one"
        )


def _check_record(plan: Plan, run: PlannedRun, path: Path) -> None:
    """Raise UserError unless a record is that of a run of a plan."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected the record of a run, got {type(content).__name__}")
    check_recipe(run, Recipe.parse(content.get("recipe", {}), f"{path}: recipe"), str(path))
    name = content.get("data")
    _check_data(plan, None if name == BUILT_IN else str(name), path)


def check_recipe(run: PlannedRun, found: Recipe, where: str) -> None:
    """Raise UserError that begins with ``where`` unless a recipe is that of a planned run.

    Of the run that it starts from only the name of the folder counts, as folders may move. The name
    of the recipe does not count: two recipes with the same settings train the same run. Where the
    plan leaves the precision to the machine, a run may have any.
    """
    planned, found = _without_place(run.recipe), _without_place(found)
    if planned.training.precision == "auto":
        training = found.training.model_copy(update={"precision": "auto"})
        found = found.model_copy(update={"training": training})
    differences = planned.differences(found)
    if differences:
        raise UserError(
            f"{where}: holds another run than the file asks for: {'; '.join(differences[:3])} "
            "(here: in the file, there: in the run); remove it, or name another one"
        )


def _without_place(recipe: Recipe) -> Recipe:
    """Return a recipe without its name, and without the folders around the run it starts from."""
    training: Any = recipe.training
    if training.start_from is not None:
        name = Path(training.start_from).name
        training = training.model_copy(update={"start_from": name})
    return recipe.model_copy(update={"name": "", "training": training})


def _is_midway(checkpoint: Path) -> bool:
    """Return whether a checkpoint says that its training has not come to its end.

    The figures in the folder are then those of an earlier end, before the run was made longer. A
    checkpoint that cannot be read says nothing.
    """
    try:
        with safe_open(checkpoint, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get("about", "{}"), str(checkpoint))
        return about["finished"] != about["iterations"]
    except (SafetensorError, OSError, UserError, TypeError, KeyError):
        return False
