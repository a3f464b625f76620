"""How far the runs of an experiment are, as their folders say, and what is left to do."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from postnms.candidate_files.reader import open_candidates
from postnms.errors import UserError
from postnms.experiments.plan import Plan, PlannedRun, heuristic_words
from postnms.files.atomic import hash_of
from postnms.files.json_files import parse_json, read_json
from postnms.recipes import Recipe
from postnms.runs.folder import read_data_folder, read_recipe

Progress = Literal["new", "stopped", "finished"]
"""``new``: nothing is there to go on from. ``stopped``: there is a checkpoint to go on from."""


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
    arms = plan.with_starts(only or plan.counted)
    for run in plan.runs:
        if run.arm not in arms:
            continue
        root = run.folder.root
        progress = progress_of(plan, run)
        _check_start(run, progress, jobs)
        if progress != "finished":
            resumed = ("train", "--resume", str(root), *_data_words(plan))
            words = run.words if progress == "new" else resumed
            jobs.append(Job(words, root, run.log, run.after))
        if not plan.replays(run.arm):
            continue
        dump, compare = heuristic_words(plan, run)
        if progress != "finished" or not is_dumped(run):
            jobs.append(Job(dump, run.candidates, run.log, root))
        if progress != "finished" or not is_compared(plan, run):
            jobs.append(Job(compare, run.compared, run.log, run.candidates))
    open_jobs = {job.makes for job in jobs}
    return [
        Job(job.words, job.makes, job.log, job.after if job.after in open_jobs else None)
        for job in jobs
    ]


def _check_start(run: PlannedRun, progress: Progress, jobs: Sequence[Job]) -> None:
    """Raise UserError if a run is there whose start is still to be trained.

    It began with other weights than those that the training will give.
    """
    if progress != "new" and run.after in [job.makes for job in jobs]:
        raise UserError(
            f"{run.folder.root}: started from weights that {run.after} does not have any more; "
            "remove the folder, or name another --out"
        )


def progress_of(plan: Plan, run: PlannedRun) -> Progress:
    """Return how far a run is.

    Raises:
        UserError: its folder holds a run of another recipe or of other data, or cannot be read.
    """
    folder = run.folder
    has_checkpoint = folder.checkpoint.is_file() or folder.older_checkpoint.is_file()
    if not has_checkpoint and not folder.weights.is_file():
        return "new"
    check_recipe(run, read_recipe(folder), str(folder.root))
    data = read_data_folder(folder)
    names = [None if path is None else path.resolve().name for path in (plan.data, data)]
    if names[0] != names[1]:
        here, there = (name or "the built-in scenes" for name in names)
        raise UserError(
            f"{folder.root}: expected a run on {here}, got one on {there}; "
            "remove the folder, or name another --out"
        )
    is_measured = folder.weights.is_file() and folder.metrics.is_file()
    if is_measured and not (folder.checkpoint.is_file() and _is_midway(folder.checkpoint)):
        return "finished"
    return "stopped" if has_checkpoint else "new"


def check_recipe(run: PlannedRun, found: Recipe, where: str) -> None:
    """Raise UserError that begins with ``where`` unless a recipe is that of a planned run.

    Of the run that it starts from only the name of the folder counts, as folders may move.
    """
    differences = _without_place(run.recipe).differences(_without_place(found))
    if differences:
        raise UserError(
            f"{where}: holds another run than the file asks for: {'; '.join(differences[:3])} "
            "(here: in the file, there: in the run); remove the folder, or name another --out"
        )


def is_dumped(run: PlannedRun) -> bool:
    """Return whether the file of candidates is there, and is that of the weights of the run."""
    if not run.candidates.is_file():
        return False
    made_with = open_candidates(run.candidates).provenance.get("weights_sha256")
    return made_with == hash_of(run.folder.newest_weights)


def is_compared(plan: Plan, run: PlannedRun) -> bool:
    """Return whether all suppressors of the plan are compared on the candidates of the run."""
    file = comparison_file(run)
    if not file.is_file():
        return False
    content = read_json(file)
    try:
        made_with = content["candidates"]["weights_sha256"]
        names = {row["name"] for row in content["rows"]}
    except (TypeError, KeyError) as error:
        raise UserError(f"{file}: expected a comparison of suppressors, got other facts") from error
    return made_with == hash_of(run.folder.newest_weights) and set(plan.methods) <= names


def comparison_file(run: PlannedRun) -> Path:
    """Return the file with the figures of the suppressors on the candidates of a run."""
    return run.compared / "compare.json"


def _data_words(plan: Plan) -> list[str]:
    """Return the option that tells a resumed run where its data are, which may have moved."""
    return [] if plan.data is None else ["--data", str(plan.data)]


def _without_place(recipe: Recipe) -> Recipe:
    """Return a recipe that names the run it starts from without the folders around it."""
    training: Any = recipe.training
    if training.start_from is None:
        return recipe
    name = Path(training.start_from).name
    return recipe.model_copy(update={"training": training.model_copy(update={"start_from": name})})


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
