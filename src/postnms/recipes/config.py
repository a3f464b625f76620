"""Everything that decides a training run, in one frozen config; ``--set stage.weighting=cls`` changes a field."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from postnms.config import Config, Positive, json_or_text, nearest
from postnms.data.config import DataConfig
from postnms.detectors import AnyDetectorConfig, FasterRCNNConfig
from postnms.errors import UserError
from postnms.stage import StageConfig

NonNegative = Annotated[float, Field(ge=0)]


class TrainingConfig(Config):
    """Optimizer, schedule, precision, and how often to log, save and evaluate (in iterations)."""

    start_from: str | None = None
    """Weights that the run starts from: a run folder, its weights or checkpoint, or a detector's state-dict file."""
    freeze: Literal["none", "detector"] = "none"
    """``detector``: only the stage is trained, on a detector that stays as it is."""
    iterations: Positive
    batch_size: Positive = 16
    """Images an iteration over all processes."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD; AdamW keeps torch's betas."""
    weight_decay: NonNegative = 1e-4
    stage_lr_factor: Annotated[float, Field(gt=0)] = 1.0
    """Rate of the stage's parameters over the detector's: its loss is scaled down by beta, which this can undo
    for the stage without pulling harder at the shared features."""
    warmup_iterations: Annotated[int, Field(ge=0)] = 500
    warmup_factor: Annotated[float, Field(ge=0, le=1)] = 0.001
    steps: tuple[int, ...] = ()
    """Iterations at which the rate is multiplied by gamma."""
    gamma: Annotated[float, Field(gt=0)] = 0.1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the whole gradient."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of training; evaluation is always float32."""
    channels_last: bool = False
    log_every: Positive = 20
    checkpoint_every: Positive = 1000
    evaluate_every: Positive = 10000


class EvaluationConfig(Config):
    """How results are measured."""

    batch_size: Positive = 8
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    """Resamples of the images for the interval of the gain; 0: no interval."""


class Recipe(Config):
    """A whole run."""

    name: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataConfig = DataConfig()
    detector: AnyDetectorConfig = FasterRCNNConfig()
    stage: StageConfig | None = StageConfig()
    """None: the bare detector."""
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _something_is_trained(self) -> "Recipe":
        if self.training.freeze == "none":
            return self
        if self.stage is None:
            raise ValueError(
                "training.freeze: 'detector' leaves nothing to train without a stage; got stage null"
            )
        if self.stage.candidates == "sampled":
            raise ValueError(
                "training.freeze: 'detector' needs stage.candidates 'proposals', got 'sampled'"
            )
        if self.training.start_from is None and getattr(self.detector, "weights", None) is None:
            raise ValueError(
                "training.freeze: 'detector' needs its weights, training.start_from; got random ones"
            )
        return self

    def differences(self, other: "Recipe") -> list[str]:
        """Fields in which another recipe differs, as ``path: own value, other value``."""
        own, others = flatten(self.model_dump(mode="json")), flatten(other.model_dump(mode="json"))
        paths = [path for path in own | others if own.get(path) != others.get(path)]
        return [f"{path}: {own.get(path)!r} here, {others.get(path)!r} there" for path in paths]


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with some fields changed: ``stage.weighting=cls``, ``training.steps=[10,20]``, ``stage=null``.

    Values are JSON; what is not JSON is a string. A config that is null is filled with its defaults first.
    """
    values = recipe.model_dump(mode="json")
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise UserError(f"--set {text}: expected PATH=VALUE, for example stage.weighting=cls")
        *parents, last = path.split(".")
        place: Any = values
        for parent in parents:
            place = _child(place, parent, path)
        place[last] = json_or_text(value)
    return Recipe.parse(values, "recipe")


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict by dotted path."""
    if not isinstance(values, dict):
        return {prefix: values}
    parts = [
        flatten(value, f"{prefix}.{name}" if prefix else name) for name, value in values.items()
    ]
    return {path: value for part in parts for path, value in part.items()}


def _child(place: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    if name not in place:
        raise UserError(f"--set {path}: no field {name!r} ({nearest(name, list(place))})")
    if place[name] is None:
        place[name] = {}
    if not isinstance(place[name], dict):
        raise UserError(f"--set {path}: {name!r} has no fields, it is {place[name]!r}")
    return place[name]
