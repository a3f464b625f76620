"""What the YAML file of an experiment holds, and how it is read.

An experiment trains every arm once with every seed. An arm is a recipe with changes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from postnms.config import Config, nearest
from postnms.errors import UserError, shown, shown_name
from postnms.evaluation.metrics import FIGURES
from postnms.files.yaml_settings import KeyPath, line_of, read_yaml
from postnms.rescoring import rescorer_config
from postnms.structures import NMS_ROW
from postnms.suppression import SUPPRESSORS, choose

BEST = "best_heuristic"
"""Stands for the suppressor with the best mean AP over the seeds."""
BEST_ROW = "best"
"""Stands for the row of an arm with the best mean AP over the seeds."""
FREE = tuple(
    name
    for name, suppressor in SUPPRESSORS.items()
    if not suppressor.columns and name not in ("none", NMS_ROW)
)
"""The suppressors that every detector has the columns for, besides plain NMS and ``none``."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Names of arms and of evaluations. They are parts of the names of files, and end at a dot or at a
colon in a difference."""

Text = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


RescorerName = Literal["sce", "contextual", "relation"]
"""A kind of rescorer, as ``postnms train-rescorer`` takes it. It is also the name of its row."""


class ArmConfig(Config):
    """One arm of an experiment: a run for each seed, and how it differs from the recipe."""

    recipe: str | None = None
    """Name of a recipe, or path of a recipe file. None: that of the experiment."""
    set: tuple[str, ...] = ()
    """Changes of the recipe as ``--set`` takes them. They come after those of the experiment."""
    start_from: str | None = None
    """Arm whose run of the same seed has the initial weights. None: those of the recipe."""
    freeze: Literal["none", "detector", "detector_and_stage"] | None = None
    """``detector``: train only the stage and the heads. ``detector_and_stage``: only the heads.
    None: as the recipe says."""
    row: str | None = None
    """The row of the arm that counts: it stands for the arm in the results and in differences. A
    row of its runs, for example ``post_nms``, ``best`` for the one with the best mean AP over the
    seeds, a row of ``heuristics``, or one of the rows that the next three fields give. None: the
    last row of its runs."""
    methods: tuple[str, ...] = ()
    """Suppressors that are replayed on the candidates of this arm alone, for example those that
    need a column which its networks give: ``variance_voting``. Each gives a row of its name."""
    rescorers: dict[RescorerName, tuple[str, ...]] = Field(default_factory=dict)
    """Rescorers that are trained on the candidates of the train split, and give those of the val
    split new scores: ``postnms train-rescorer`` and ``postnms rescore``. Each has changes of its
    settings, as ``train-rescorer --set`` takes them, and gives a row of its name."""
    evaluations: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By name, changes with which the runs are evaluated again, as ``postnms eval --set`` takes
    them. An evaluation NAME gives the rows of the runs once more: ``NAME:nms`` and so on."""
    placement: bool = False
    """Whether the page has the placement of clusters before and after the stage (paper:
    Figure 2)."""


class HeuristicsConfig(Config):
    """Suppressors that are replayed on the candidates of the runs of some arms."""

    arms: Annotated[tuple[str, ...], Field(min_length=1)]
    """The arms on whose candidates they are replayed."""
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = FREE
    """Suppressors as ``postnms compare`` takes them, for example ``nms:iou=0.6``."""


class ExperimentConfig(Config):
    """The fields of the file of an experiment."""

    title: Text
    """Title of the page."""
    text: str = ""
    """Markdown that stands below the title."""
    data: str | None = None
    """Data folder or ``data.yaml``, relative to the present folder. None: the built-in scenes."""
    recipe: str
    """Name of a recipe, or path of a recipe file, relative to the present folder."""
    set: tuple[str, ...] = ()
    """Changes of the recipe in all arms, as ``--set`` takes them."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Seeds with which every arm is trained."""
    arms: Annotated[dict[str, ArmConfig], Field(min_length=1)]
    """The arms by name."""
    heuristics: HeuristicsConfig | None = None
    """None: no suppressors are replayed."""
    differences: tuple[tuple[str, str], ...] = ()
    """Pairs of ``ARM`` or ``ARM.ROW`` in the order of the page: AP of the first minus AP of the
    second. An arm alone has the row that counts. Otherwise the row is one of a run, for example
    ``post_nms``, or ``best``, or one of ``heuristics``: a method, or ``best_heuristic``, which is
    the method with the best mean AP over the seeds."""
    columns: Annotated[tuple[str, ...], Field(min_length=1)] = ("AP", "AP50", "AP75")
    """Figures that the page shows, in this order."""
    bootstrap: Annotated[int, Field(ge=1)] = 1000
    """Number of resamples for the intervals of the differences."""


@dataclass(frozen=True)
class Experiment:
    """An experiment, and the file that describes it."""

    path: Path
    config: ExperimentConfig
    lines: dict[KeyPath, int] = field(default_factory=dict, repr=False)
    """The line of each value, by the path to it."""

    @property
    def name(self) -> str:
        """The name of the file without its ending."""
        return self.path.stem

    def mistake(self, where: Sequence[str], message: str) -> UserError:
        """Return the error that names the file, the line and the field ``where``."""
        line = line_of(self.lines, where)
        return UserError(f"{self.path}, line {line}: {'.'.join(map(shown_name, where))}: {message}")


def read_experiment(path: Path) -> Experiment:
    """Read the file of an experiment.

    What depends on the recipes is checked by :func:`postnms.experiments.plan.make_plan`.

    Raises:
        UserError: the file cannot be read, or does not describe an experiment. The message begins
            with the path and the line.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of an experiment")
    file = read_yaml(path)
    config = ExperimentConfig.parse(file.values, str(path), partial(line_of, file.lines))
    experiment = Experiment(path, config, file.lines)
    _check_names(experiment)
    _check_heuristics(experiment)
    return experiment


def _check_names(experiment: Experiment) -> None:
    """Raise UserError unless arms, seeds and figures have good names, each of them once."""
    config = experiment.config
    for name, arm in config.arms.items():
        if not _PLAIN.fullmatch(name):
            raise experiment.mistake(
                ("arms", name), "expected a name of letters, digits, - and _, such as stage"
            )
        for evaluation in arm.evaluations:
            if not _PLAIN.fullmatch(evaluation):
                raise experiment.mistake(
                    ("arms", name, "evaluations", evaluation),
                    "expected a name of letters, digits, - and _, such as mean",
                )
        for kind, texts in arm.rescorers.items():
            try:
                rescorer_config(kind, texts)
            except UserError as error:
                raise experiment.mistake(("arms", name, "rescorers", kind), str(error)) from error
        if arm.start_from is not None:
            where = ("arms", name, "start_from")
            check_known(experiment, where, arm.start_from, list(config.arms), "arm")
    for number, figure in enumerate(config.columns):
        check_known(experiment, ("columns", str(number)), figure, list(FIGURES), "figure")
    once: dict[KeyPath, Sequence[object]] = {("seeds",): config.seeds, ("columns",): config.columns}
    if config.heuristics is not None:
        once["heuristics", "arms"] = config.heuristics.arms
    for where, values in once.items():
        if len(set(values)) < len(values):
            raise experiment.mistake(where, f"expected each value once, got {shown(values)}")


def _check_heuristics(experiment: Experiment) -> None:
    """Raise UserError unless the suppressors are known, and those of heuristics need no column."""
    heuristics = experiment.config.heuristics
    common: tuple[str, ...] = ()
    if heuristics is not None:
        common = heuristics.methods
        for number, arm in enumerate(heuristics.arms):
            where = ("heuristics", "arms", str(number))
            check_known(experiment, where, arm, list(experiment.config.arms), "arm")
        _check_methods(experiment, ("heuristics", "methods"), common, ())
        for number, method in enumerate(common):
            if columns := choose(method).suppressor.columns:
                raise experiment.mistake(
                    ("heuristics", "methods", str(number)),
                    f"{method} needs the columns {', '.join(columns)}, which not every recipe "
                    "gives; name it in the field methods of the arms that have them",
                )
    for name, arm in experiment.config.arms.items():
        replayed = heuristics is not None and name in heuristics.arms
        where = ("arms", name, "methods")
        _check_methods(experiment, where, arm.methods, common if replayed else ())


def _check_methods(
    experiment: Experiment, where: KeyPath, methods: Sequence[str], others: Sequence[str]
) -> None:
    """Raise UserError unless the methods are suppressors, each of them once.

    ``others`` are replayed on the same candidates.
    """
    for number, method in enumerate(methods):
        here = (*where, str(number))
        try:
            choose(method)
        except UserError as error:
            raise experiment.mistake(here, str(error)) from error
        if method == NMS_ROW or method in (*others, *methods[:number]):
            what = "is there in any case" if method == NMS_ROW else "is there twice"
            raise experiment.mistake(here, f"{method} {what}")


def check_known(
    experiment: Experiment, where: Sequence[str], name: str, valid: list[str], kind: str
) -> None:
    """Raise UserError with the nearest valid name unless ``name`` is one of the valid names."""
    if name not in valid:
        raise experiment.mistake(where, f"no {kind} {shown(name)} ({nearest(name, valid)})")
