"""What is made of a trained run: candidates, and the rows that come from them.

A step is one command. :mod:`postnms.experiments.state` says which of them are left to do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from postnms.candidate_files.reader import open_candidates
from postnms.errors import UserError
from postnms.experiments.config import RescorerName
from postnms.experiments.plan import Plan, data_words
from postnms.experiments.planned import PlannedRun
from postnms.files.atomic import hash_of
from postnms.files.json_files import read_json
from postnms.recipes import Recipe
from postnms.rescoring import load_rescorer, rescorer_config
from postnms.rescoring.config import CONFIGS
from postnms.structures import BOX_FEATURES, POST_NMS_ROW

NEED_FEATURES = tuple(name for name, config in CONFIGS.items() if config.needs_features)
"""The rescorers that need the column of ``postnms dump --features``."""
_FUSED = ("stage.fusion", "stage.fusion_mean", "stage.relocation")
"""Settings of the stage whose other values give a row that the columns of the candidates tell."""


@dataclass(frozen=True)
class Step:
    """A command that follows the training of a run."""

    words: tuple[str, ...]
    """The command line without the program."""
    makes: Path
    """The file or folder that the command writes."""
    after: Path
    """What is made before it."""
    is_done: Callable[[], bool]
    """Whether it is made already, of the weights of the run."""


def steps_of(plan: Plan, run: PlannedRun) -> list[Step]:
    """Return the commands that follow the training of a run, each after the one it waits for."""
    arm = plan.experiment.config.arms[run.arm]
    methods = plan.methods_of(run.arm)
    root, data = run.folder.root, data_words(plan.data)
    fused = [name for name in run.evaluations if is_fused(run, name)]
    steps: list[Step] = []
    if methods or arm.rescorers or arm.placement or fused:
        features = ["--features"] * any(name in NEED_FEATURES for name in arm.rescorers)
        steps.append(_dump(run, run.candidates, root, [*data, *features]))
    if methods:
        # The intervals of the page come from resamples of their own.
        words = ["compare", str(run.candidates), *data, "--suppressor", ",".join(methods)]
        words += ["--bootstrap", "0", "--out", str(run.compared)]
        done = partial(is_compared, plan, run)
        steps.append(Step(tuple(words), run.compared, run.candidates, done))
    for name, texts in arm.evaluations.items():
        if name not in fused:
            changes = [word for text in texts for word in ("--set", text)]
            recipe = run.evaluations[name]
            steps.append(_dump(run, run.evaluated(name), root, [*data, *changes], recipe))
    return steps + _rescorer_steps(run, arm.rescorers, data)


def _rescorer_steps(
    run: PlannedRun, rescorers: Mapping[RescorerName, Sequence[str]], data: Sequence[str]
) -> list[Step]:
    """Return what trains rescorers on the train split, and what they make of the val split.

    The candidates of the train split may be large. They are not needed any more when all rescorers
    have done their work, nor is a rescorer when it has done its own.
    """
    if not rescorers:
        return []
    train = run.train_candidates
    features = ["--features"] * any(name in NEED_FEATURES for name in rescorers)
    dump = _dump(run, train, run.candidates, [*data, "--split", "train", *features])

    def needs_no_training() -> bool:
        return all(is_rescored(run, *item) for item in rescorers.items()) or dump.is_done()

    steps = [replace(dump, is_done=needs_no_training)]
    for name, texts in rescorers.items():
        file, rescored = run.rescorer(name), run.rescored(name)
        changes = [word for text in texts for word in ("--set", text)]
        words = ("train-rescorer", name, str(train), *data, "--seed", str(run.seed), *changes)
        trained = partial(_is_trained, run, name, texts)
        steps.append(Step((*words, "--out", str(file)), file, train, trained))
        words = ("rescore", str(file), str(run.candidates), *data, "--out", str(rescored))
        steps.append(Step(words, rescored, file, partial(is_rescored, run, name, texts)))
    return steps


def _dump(
    run: PlannedRun,
    file: Path,
    after: Path,
    options: Sequence[str],
    recipe: Recipe | None = None,
) -> Step:
    """Return the step that writes candidates of a run to a file."""
    words = ("dump", str(run.folder.root), *options, "--out", str(file))
    column = BOX_FEATURES if "--features" in options else None
    return Step(words, file, after, partial(is_dumped, run, file, recipe=recipe, column=column))


def is_fused(run: PlannedRun, name: str) -> bool:
    """Return whether the rows of an evaluation follow from the candidates of the run.

    They do if it joins the scores of the stage in another way, or leaves the boxes where they are,
    and changes nothing else. The columns of the candidates tell the scores and the moved boxes.
    """
    before, after = run.recipe, run.evaluations[name]
    changed = [text.partition(":")[0] for text in before.differences(after)]
    if before.stage is None or after.stage is None:
        return False
    if not all(field.startswith(_FUSED) for field in changed):
        return False
    moved = before.stage.relocation or not after.stage.relocation
    return moved and after.stage.rows == (POST_NMS_ROW,)


def is_dumped(
    run: PlannedRun, file: Path, recipe: Recipe | None = None, column: str | None = None
) -> bool:
    """Return whether a file of candidates is there, and is that of the weights of the run.

    Args:
        run: the run.
        file: the file of candidates.
        recipe: settings that the file must have been made with. None: any.
        column: an extra column that the file must have. None: any columns.
    """
    if not file.is_file():
        return False
    candidates = open_candidates(file)
    if candidates.provenance.get("weights_sha256") != hash_of(run.folder.newest_weights):
        return False
    if column is not None and column not in candidates.extra:
        return False
    if recipe is None:
        return True
    made_with = Recipe.parse(candidates.provenance.get("recipe", {}), f"{file}: recipe")
    # The run that it starts from may have moved, and its training is over.
    same = {"name": recipe.name, "training": recipe.training}
    return made_with.model_copy(update=same) == recipe


def is_rescored(run: PlannedRun, name: RescorerName, texts: Sequence[str]) -> bool:
    """Return whether a rescorer of some settings has given the candidates of the run new scores."""
    file = run.rescored(name)
    if not is_dumped(run, file):
        return False
    candidates = open_candidates(file)
    entries = candidates.provenance.get("rescored")
    made: Mapping[str, Any] = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("row") == name:
            made = entry
    # The candidates are those of the present weights.
    weights = candidates.provenance["weights_sha256"]
    if name not in candidates.rows or _weights_of(made.get("learned_from")) != weights:
        return False
    return _has_settings(made.get("config"), name, texts)


def _is_trained(run: PlannedRun, name: RescorerName, texts: Sequence[str]) -> bool:
    """Return whether a rescorer of some settings is trained, or has done its work already."""
    if is_rescored(run, name, texts):
        return True
    file, train = run.rescorer(name), run.train_candidates
    # A rescorer of other candidates is older than the present ones.
    if not (file.is_file() and train.is_file() and file.stat().st_mtime >= train.stat().st_mtime):
        return False
    rescorer = load_rescorer(file)
    learned_from = _weights_of(rescorer.provenance.get("candidates"))
    if learned_from != hash_of(run.folder.newest_weights):
        return False
    return _has_settings(rescorer.config.model_dump(mode="json"), name, texts)


def _weights_of(candidates: object) -> object:
    """Return the hash of the weights that made candidates, from the facts that a rescorer has."""
    return candidates.get("weights_sha256") if isinstance(candidates, dict) else None


def _has_settings(made_with: object, name: RescorerName, texts: Sequence[str]) -> bool:
    """Return whether a rescorer was made with the settings that the experiment asks for."""
    asked = rescorer_config(name, texts).model_dump(mode="json")
    if not isinstance(made_with, dict):
        return False
    if asked.get("suppressor", "") is None:
        # The file of candidates has decided it.
        made_with = {**made_with, "suppressor": None}
    return made_with == asked


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
    is_newest = made_with == hash_of(run.folder.newest_weights)
    return is_newest and set(plan.methods_of(run.arm)) <= names


def comparison_file(run: PlannedRun) -> Path:
    """Return the file with the figures of the suppressors on the candidates of a run."""
    return run.compared / "compare.json"
