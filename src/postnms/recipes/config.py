"""Everything that decides a training run, in one frozen config.

``postnms train NAME --set stage.weighting=cls`` changes one field of it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from postnms.config import Config, Fraction, Positive, json_or_text, nearest
from postnms.data.config import DataConfig
from postnms.detectors import AnyDetectorConfig, FasterRCNNConfig
from postnms.errors import UserError, shown, shown_name
from postnms.recipes.lengths import Length, LengthOrNone
from postnms.rivals import HeadsConfig
from postnms.stage import StageConfig
from postnms.suppression.registry import choose_each, split_names

NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


def _of_text(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(split_names(value))
    return tuple(value) if isinstance(value, list) else value


def _known(texts: tuple[str, ...]) -> tuple[str, ...]:
    choose_each(texts)
    return texts


class TrainingConfig(Config):
    """Optimizer, schedule, precision, and how often to log, save and evaluate.

    Lengths and intervals are numbers of iterations, or texts such as ``20 epochs``. An epoch is as
    many iterations as it takes to see every image once.
    """

    start_from: str | None = None
    """Weights that the run starts from: a run folder, its weights or checkpoint, or a state-dict
    file of a detector. None: those of ``detector``."""
    exact_weights: bool = False
    """Whether the weights that the run starts from must fit exactly. Off: where they are of other
    classes, the layers of the classes start anew. Those of a backbone, and all weights of a frozen
    detector, must fit exactly in any case."""
    freeze: Literal["none", "detector", "detector_and_stage"] = "none"
    """``detector``: train only the stage and the heads, on a detector that stays as it is.
    ``detector_and_stage``: train only the heads."""
    feature_memory: Literal["memory", "file", "none"] = "memory"
    """Where a frozen detector keeps what it gives for each training image, so that later epochs
    cost what the stage costs. ``file``: in a memory-mapped file in the run folder. It is not in use
    if ``data.augmentation`` changes more than the orientation, since no image then comes twice."""
    feature_memory_gib: Annotated[float, Field(gt=0)] = 2.0
    """Largest size of ``feature_memory`` in GiB for each process, above 0. What is over it is
    computed each time."""
    iterations: Length
    """Number of training steps, or of epochs: ``20 epochs``."""
    batch_size: Positive = 16
    """Number of images in one step over all processes."""
    accumulation: Positive = 1
    """Number of parts of a batch that are computed one after another, to use less memory. The
    weights change once, by the mean of the gradients of the parts. Every process must get a
    multiple of it."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """``sgd`` with momentum, or ``adamw``."""
    lr: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate of the detector after warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD. AdamW keeps torch's betas."""
    weight_decay: NonNegative = 1e-4
    """Weight decay of all trained parameters, at least 0."""
    stage_lr_factor: Annotated[float, Field(gt=0)] = 1.0
    """Learning-rate multiplier of the stage's parameters.

    Beta scales the stage's loss down, and with it the stage's updates. This compensates for the
    stage alone and leaves its gradient into the shared features as it is."""
    warmup_iterations: LengthOrNone = 500
    """Number of iterations in which the rate rises linearly."""
    warmup_factor: Fraction = 0.001
    """Share of the rate that the first iteration has."""
    schedule: Literal["steps", "cosine"] = "steps"
    """How the rate falls after warm-up: at ``steps`` alone, or as half a cosine wave as well."""
    steps: tuple[Length, ...] = ()
    """Iterations at which the rate is multiplied by ``gamma``."""
    gamma: Annotated[float, Field(gt=0)] = 0.1
    """Factor of the rate at each of ``steps``, above 0."""
    final_lr_factor: Fraction = 0.0
    """Share of the rate that a cosine ends with."""
    finish_iterations: LengthOrNone = 0
    """Length of a finishing phase after ``iterations``: the detector is frozen, and the stage alone
    is trained on. Images are then turned, as ``data.augmentation`` says, but neither resized, nor
    cropped, nor changed in colour. So the detector sees few different images, and
    ``feature_memory`` keeps what it gives. 0: no such phase."""
    finish_lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate at the start of the finishing phase, above 0; ``stage_lr_factor`` multiplies
    it. It falls to 0 as half a cosine wave. None: ``lr``."""
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average of the weights, for example 0.998. The averaged weights are
    evaluated and kept. None: no average."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient of all parameters together. None: no limit."""
    precision: Literal["auto", "float32", "bf16"] = "float32"
    """Precision of training. ``auto``: bfloat16 where the device has instructions for it, else
    float32. Evaluation is always in float32."""
    channels_last: bool = False
    """Keep images and weights with the channels innermost."""
    log_every: Positive = 20
    """Number of iterations between two lines of the log."""
    checkpoint_every: Length = 1000
    """Length between two checkpoints, from which an interrupted run goes on."""
    evaluate_every: Length = 10000
    """Length between two evaluations on the val split."""
    final_weights: Literal["last", "best"] = "last"
    """Weights that the run ends with: the last ones, or those with the best AP among all
    evaluations on the val split. The AP of the best ones is too good for a split that they were
    chosen on. The best ones are kept in ``best.safetensors`` in any case."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    """Programs that show the curves of the run. The last two need the extra ``trackers``."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        # A trained detector keeps the order of its channels.
        return frozenset(cls.model_fields.keys() - {"channels_last"})


class EvaluationConfig(Config):
    """How results are measured."""

    batch_size: Positive = 8
    """Number of images in one forward pass.

    Images of different sizes are padded to one size, which moves boxes and scores. With 1 the
    figures are those of what ``postnms predict`` finds.
    """
    bootstrap: Count = 1000
    """Number of resamples of the images for the interval of the gain; 0: no interval.

    Only the last evaluation of a training has intervals. The earlier ones draw no resamples.
    """


class Recipe(Config):
    """All settings of one run."""

    name: str = ""
    """Name under which the recipe is listed."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of weights, data order, augmentation, sampling and built-in scenes."""
    data: DataConfig = DataConfig()
    detector: AnyDetectorConfig = FasterRCNNConfig()
    stage: StageConfig | None = StageConfig()
    """None: the bare detector."""
    heads: HeadsConfig = HeadsConfig()
    suppressors: Annotated[tuple[str, ...], BeforeValidator(_of_text), AfterValidator(_known)] = ()
    """Further suppressors of the detector's own candidates, as ``postnms compare`` takes them: a
    list, or a text with commas. Each gives a row of results of its name, without its settings."""
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _something_is_trained(self) -> "Recipe":
        if self.training.finish_iterations != 0:
            self._check_finish()
        freeze = self.training.freeze
        if freeze == "none":
            return self
        if self.stage is None and self.heads.is_empty:
            raise ValueError(
                f"training.freeze: {freeze!r} leaves nothing to train without a stage; "
                "got stage null"
            )
        if freeze == "detector_and_stage" and self.heads.is_empty:
            raise ValueError(
                f"training.freeze: {freeze!r} leaves nothing to train without heads; "
                "set heads.iou or heads.density"
            )
        if self.stage is not None and self.stage.candidates == "sampled":
            raise ValueError(
                f"training.freeze: {freeze!r} needs stage.candidates 'proposals', got 'sampled'"
            )
        if self.training.start_from is None and not self.detector.has_weights:
            raise ValueError(
                f"training.freeze: {freeze!r} needs its weights, training.start_from; "
                "got random ones"
            )
        return self

    def _check_finish(self) -> None:
        """Raise ValueError if there can be no finishing phase."""
        name = "training.finish_iterations"
        if self.stage is None:
            raise ValueError(f"{name}: leave nothing to train without a stage; got stage null")
        if self.stage.candidates == "sampled":
            raise ValueError(f"{name}: need stage.candidates 'proposals', got 'sampled'")
        if self.training.freeze != "none":
            raise ValueError(
                f"{name}: expected 0 for a frozen detector, whose stage is trained alone from the "
                f"start; got {self.training.finish_iterations!r}"
            )

    def differences(self, other: "Recipe") -> list[str]:
        """Return the fields in which another recipe differs, each with both values."""
        here = flatten(self.model_dump(mode="json"))
        there = flatten(other.model_dump(mode="json"))
        paths = [path for path in here | there if here.get(path) != there.get(path)]
        return [
            f"{path}: {shown(here.get(path))} here, {shown(there.get(path))} there"
            for path in paths
        ]


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values of some fields, given by their dotted paths.

    The changes are made in their order. A config that is None is filled with its defaults first.
    Raises UserError for an unknown path and for a value that does not fit.

    Example:
        >>> from postnms import get_recipe
        >>> from postnms.recipes import override
        >>> override(get_recipe("demo"), {"stage.weighting": "cls"}).stage.weighting
        'cls'
    """
    values = recipe.model_dump(mode="json")
    for path, value in changes.items():
        *parents, last = path.split(".")
        section: Any = values
        for parent in parents:
            section = _section(section, parent, path)
        section[last] = value
    return Recipe.parse(values, "recipe")


def override_trained(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a trained run with other values, see :func:`override`.

    Raises UserError also for a field that training alone reads, since it would have no effect.
    """
    for path in {**changes, **flatten(dict(changes))}:
        section: Any = recipe
        for name in path.split("."):
            if not isinstance(section, Config):
                break
            if name in section.training_only():
                raise UserError(
                    f"{shown_name(path)}: expected a field that has an effect after training, got "
                    "one that training alone reads",
                    argument="changes",
                )
            section = getattr(section, name, None)
    return override(recipe, changes)


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Read changes as a user writes them: ``stage.weighting=cls``, ``training.steps=[10,20]``.

    Values are JSON; a value that is not JSON is a string. Of two changes of one field the later
    one counts. Raises UserError for a text of another form.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise UserError(
                f"{shown_name(text)}: expected PATH=VALUE, for example stage.weighting=cls",
                argument="changes",
            )
        changes.pop(path, None)  # The order of the changes is that of their last appearance.
        changes[path] = json_or_text(value)
    return changes


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one dict by dotted paths."""
    if not isinstance(values, dict):
        return {prefix: values}
    parts = [
        flatten(value, f"{prefix}.{name}" if prefix else name) for name, value in values.items()
    ]
    return {path: value for part in parts for path, value in part.items()}


def _section(values: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    """Return the section ``name`` of some settings, for a change of the field ``path``."""
    if name not in values:
        raise UserError(
            f"{shown_name(path)}: no field {shown(name)} ({nearest(name, list(values))})",
            argument="changes",
        )
    if values[name] is None:
        values[name] = {}
    if not isinstance(values[name], dict):
        raise UserError(
            f"{shown_name(path)}: {shown(name)} has no fields, it is {shown(values[name])}",
            argument="changes",
        )
    return values[name]
