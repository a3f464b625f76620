"""The experiment of each table of the paper, at the scale of the paper or at a smaller one.

The files beside this one have the settings of the paper. At a smaller scale the recipes for COCO
give way to those for a CPU, and arms whose recipe has no such counterpart are left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

from postnms.config import nearest
from postnms.errors import UserError, listed
from postnms.experiments.config import ArmConfig, Experiment, ExperimentConfig, read_experiment
from postnms.experiments.paper.printed import TABLES, PaperRow, PaperTable
from postnms.experiments.paper.scales import SCALES, Scale, ScaleName, field_of
from postnms.experiments.plan import make_plan
from postnms.recipes import open_recipe, override, parse_changes

ALONE = "stage=null"
"""The change that leaves a detector alone."""
BARE = "bare"
"""The arm of the detector of an experiment alone."""
FROZEN = (
    "Here the detector is trained alone, once for each seed, and then frozen. Every row with a "
    "stage or a head trains these alone, on the detector of the same seed. So these rows share its "
    "candidates, and their plain NMS. An arm below that starts from no other arm is trained whole."
)
"""What the page says if detectors are frozen."""
_BACKBONE = re.compile(r"\b(R50|R101)\b")


@dataclass(frozen=True)
class Reproduction:
    """A table of the paper, and the experiment that makes it anew."""

    table: PaperTable
    """The table with those of its rows that the experiment has."""
    experiment: Experiment


def reproduction(
    name: str,
    scale: ScaleName = "coco",
    seeds: int = 3,
    changes: Sequence[str] = (),
    *,
    frozen: bool = False,
) -> Reproduction:
    """Return a table of the paper and its experiment.

    Args:
        name: ``table1`` to ``table6`` or ``figure2``.
        scale: ``coco``: the recipes of the paper. ``small`` and ``pretrained``: recipes for a CPU.
        seeds: number of seeds, which count from 0; at least 1.
        changes: changes of the recipes in all arms, as ``--set`` takes them.
        frozen: train every detector once for each seed, and on it the stages and heads of all rows
            alone. The paper trains them together.

    Raises:
        UserError: there is no such table, ``seeds`` is less than 1, or a change does not fit.
    """
    if name not in TABLES:
        raise UserError(f"no table {name!r} ({nearest(name, list(TABLES))})", argument="table")
    if seeds < 1:
        raise UserError(f"expected at least 1, got {seeds}", argument="seeds")
    with as_file(files("postnms.experiments.paper") / f"{name}.yaml") as path:
        config = read_experiment(path).config
    _check_changes(config, changes)
    # What an arm sets counts more than the changes of the user, so theirs keep it out.
    chosen = SCALES[scale].without(changes)
    config = _at_scale(config, chosen)
    if frozen:
        config = _freeze(config, chosen.frozen)
    # A mistake in a change is one of the user's command line, and not of the file.
    parsed = parse_changes(changes)
    if "seed" in parsed:
        raise UserError("seed: expected none, as the number of seeds decides", argument="changes")
    override(open_recipe(config.recipe), parsed)
    table = TABLES[name]
    rows = tuple(row for row in table.rows if row.side.partition(".")[0] in config.arms)
    sides = {row.label: row.side for row in rows}
    update = {
        "set": (*config.set, *changes),
        "seeds": tuple(range(seeds)),
        "differences": tuple((row.side, sides[row.reference]) for row in rows if row.reference),
    }
    if chosen.backbone is not None:
        rows = tuple(_with_backbone(row, chosen.backbone) for row in rows)
    # The name of the table says more to a user than the place of its file in the package.
    experiment = Experiment(Path(name), config.model_copy(update=update))
    _check_rows(experiment, rows)
    return Reproduction(replace(table, rows=rows), experiment)


def _check_changes(config: ExperimentConfig, changes: Sequence[str]) -> None:
    """Raise UserError for a change of what tells the arms of a table apart."""
    for change in changes:
        field = field_of(change)
        others = [
            name
            for name, arm in config.arms.items()
            if any(field_of(text) == field and text != change for text in arm.set)
        ]
        if others:
            raise UserError(
                f"{field}: expected a field by which no rows differ, but these arms set it: "
                f"{listed(others)}",
                argument="changes",
            )


def _check_rows(experiment: Experiment, rows: Sequence[PaperRow]) -> None:
    """Raise UserError if a change of the user takes a row of the table away."""
    without = experiment.config.model_copy(update={"differences": ()})
    plan = make_plan(replace(experiment, config=without), Path())
    for row in rows:
        arm, _, found = row.side.partition(".")
        known = (*plan.rows(arm), *plan.further_rows(arm))
        if found not in known:
            raise UserError(
                f'expected changes that leave the row "{row.label}" of {experiment.name}, for '
                f"which {arm} needs {found}; it has {', '.join(known)}",
                argument="changes",
            )


def _at_scale(config: ExperimentConfig, scale: Scale) -> ExperimentConfig:
    """Return an experiment with the recipes of a scale, and without the arms that have none."""
    arms = {
        name: _arm_at_scale(arm, scale)
        for name, arm in config.arms.items()
        if arm.recipe is None or scale.recipe(arm.recipe) is not None
    }
    return config.model_copy(update={"recipe": scale.recipe(config.recipe), "arms": arms})


def _arm_at_scale(arm: ArmConfig, scale: Scale) -> ArmConfig:
    """Return an arm with the recipe and the settings of a scale."""
    has_heads = any(text.startswith("heads.") for text in arm.set)
    update = {
        "recipe": arm.recipe and scale.recipe(arm.recipe),
        "set": (*arm.set, *scale.heads) if has_heads else arm.set,
        "rescorers": {
            name: (*texts, *scale.rescorers.get(name, ())) for name, texts in arm.rescorers.items()
        },
    }
    return arm.model_copy(update=update)


def _freeze(config: ExperimentConfig, length: Sequence[str]) -> ExperimentConfig:
    """Return an experiment whose stages and heads are trained on frozen detectors.

    ``length`` has the settings of these trainings.
    """
    arms = dict(config.arms)
    if BARE not in arms:
        arms = {BARE: ArmConfig(set=(ALONE,)), **arms}
    detectors = {arm.recipe: name for name, arm in arms.items() if arm.set == (ALONE,)}
    for name, arm in arms.items():
        if name not in detectors.values() and not any(t.startswith("detector.") for t in arm.set):
            update = {"start_from": detectors[arm.recipe], "freeze": "detector"}
            arms[name] = arm.model_copy(update={**update, "set": (*arm.set, *length)})
    text = f"{config.text.strip()} {FROZEN}".strip()
    return config.model_copy(update={"arms": arms, "text": text})


def _with_backbone(row: PaperRow, backbone: str) -> PaperRow:
    """Return a row whose labels say which backbone the recipes have here."""

    def say(label: str) -> str:
        return _BACKBONE.sub(rf"\1 (here {backbone})", label)

    reference = None if row.reference is None else say(row.reference)
    return replace(row, label=say(row.label), reference=reference)
