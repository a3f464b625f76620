"""Recipes: everything that decides a training run, in one frozen config; and the named ones.

``postnms recipes show NAME`` prints one whole; ``--set stage.weighting=cls`` changes a field.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from postnms.config import Config, nearest
from postnms.data.scenes import ScenesConfig
from postnms.data.transforms import AugmentationConfig
from postnms.detectors import BackboneConfig, DetectorConfig, FasterRCNNConfig
from postnms.errors import UserError
from postnms.stage import StageConfig

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class DataConfig(Config):
    """Where images and annotations lie under the data folder, and how they are read."""

    train_annotations: str = "instances_train.json"
    train_images: str = "images"
    val_annotations: str = "instances_val.json"
    val_images: str = "images"
    scenes: ScenesConfig | None = None
    """The built-in data set, generated in memory when no data folder is given."""
    augmentation: AugmentationConfig = AugmentationConfig()
    cache: bool = False
    """Keep decoded, resized images in memory: for data sets that fit."""
    workers: Annotated[int, Field(ge=0)] = 4


class TrainingConfig(Config):
    """Optimizer, schedule, precision, and how often to log, save and evaluate (in iterations)."""

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
    detector: DetectorConfig = FasterRCNNConfig()
    stage: StageConfig | None = StageConfig()
    """None: the bare detector."""
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()

    def differences(self, other: "Recipe") -> list[str]:
        """Fields in which another recipe differs, as ``path: own value, other value``."""
        own, others = flatten(self.model_dump(mode="json")), flatten(other.model_dump(mode="json"))
        paths = [path for path in own | others if own.get(path) != others.get(path)]
        return [f"{path}: {own.get(path)!r} here, {others.get(path)!r} there" for path in paths]


def faster_rcnn_r50_fpn_1x() -> Recipe:
    """The paper's Faster R-CNN R50-FPN on COCO (Table 1; val: NMS 37.0, post-NMS 38.6 AP in the paper).

    accelerate launch -m postnms train faster_rcnn_r50_fpn_1x --data coco --out runs/r50
    About a day on 8 GPUs of 2019. Not yet run here.
    """
    backbone = BackboneConfig(name="resnet50", weights="imagenet", norm="frozen", trainable_layers=3)
    return Recipe(
        name="faster_rcnn_r50_fpn_1x",
        data=DataConfig(
            train_annotations="annotations/instances_train2017.json",
            train_images="train2017",
            val_annotations="annotations/instances_val2017.json",
            val_images="val2017",
        ),
        detector=FasterRCNNConfig(backbone=backbone),
        training=TrainingConfig(iterations=90_000, batch_size=16, lr=0.02, momentum=0.9, steps=(60_000, 80_000)),
    )


def faster_rcnn_r101_fpn_1x() -> Recipe:
    """The paper's Faster R-CNN R101-FPN on COCO (Table 1: test-dev 40.6, +1.7 AP).

    accelerate launch -m postnms train faster_rcnn_r101_fpn_1x --data coco --out runs/r101
    Not yet run here.
    """
    base = faster_rcnn_r50_fpn_1x()
    return override(base, ["name=faster_rcnn_r101_fpn_1x", "detector.backbone.name=resnet101"])


def faster_rcnn_r18_small() -> Recipe:
    """Small data sets of small images, from random weights, on a CPU: ResNet-18, 64-channel pyramid, 192 px.

    postnms train faster_rcnn_r18_small --data FOLDER --out runs/small
    The iterations are 30 epochs of 444 images. The stage is narrower than the paper's and learns faster (its loss
    is scaled down by beta), and its location loss turns linear sooner, as the detector's own does.
    On blood cells about 20 minutes on two CPU cores: 74.8 AP for NMS, 76.4 for post-NMS, 73.6 without the stage.
    """
    backbone = BackboneConfig(name="resnet18", fpn_channels=64, norm="trained", trainable_layers=5)
    return Recipe(
        name="faster_rcnn_r18_small",
        data=DataConfig(cache=True, workers=0),
        detector=FasterRCNNConfig(
            backbone=backbone,
            min_size=192,
            max_size=320,
            anchor_sizes=(16, 32, 64, 128, 256),
            rpn_pre_nms_top_n_train=500,
            rpn_pre_nms_top_n_test=500,
            rpn_post_nms_top_n_train=300,
            rpn_post_nms_top_n_test=300,
            box_batch_size_per_image=128,
        ),
        stage=StageConfig(width=256, max_candidates=128, smooth_l1_beta=1 / 9),
        training=TrainingConfig(
            iterations=1665,
            batch_size=8,
            lr=0.02,
            warmup_iterations=200,
            steps=(1330, 1550),
            clip_norm=10.0,
            stage_lr_factor=4.0,
            precision="bf16",
            channels_last=True,
            log_every=10,
            checkpoint_every=111,
            evaluate_every=555,
        ),
    )


def demo() -> Recipe:
    """The built-in crowded scenes, small enough for about four minutes on two CPU cores.

    postnms demo
    """
    small = faster_rcnn_r18_small()
    training = {"iterations": 400, "warmup_iterations": 100, "steps": (320, 375)}
    every = {"checkpoint_every": 100, "evaluate_every": 200}
    return small.model_copy(
        update={
            "name": "demo",
            "data": DataConfig(scenes=ScenesConfig(), cache=True, workers=0),
            "detector": small.detector.model_copy(update={"min_size": 160}),
            "training": small.training.model_copy(update={**training, **every}),
        }
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "demo": demo,
    "faster_rcnn_r18_small": faster_rcnn_r18_small,
    "faster_rcnn_r50_fpn_1x": faster_rcnn_r50_fpn_1x,
    "faster_rcnn_r101_fpn_1x": faster_rcnn_r101_fpn_1x,
}


def get_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A named recipe with ``path=value`` overrides. Raises UserError for an unknown name, path or value."""
    if name not in RECIPES:
        raise UserError(f"recipe {name!r}: no such recipe ({nearest(name, list(RECIPES))})")
    return override(RECIPES[name](), overrides)


def describe(name: str) -> str:
    """What a named recipe is for, how it is run and what it gives."""
    return inspect.cleandoc(RECIPES[name].__doc__ or "")


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
        place[last] = _json_or_text(value)
    return Recipe.parse(values, "recipe")


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict by dotted path."""
    if not isinstance(values, dict):
        return {prefix: values}
    parts = [flatten(value, f"{prefix}.{name}" if prefix else name) for name, value in values.items()]
    return {path: value for part in parts for path, value in part.items()}


def _child(place: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    if name not in place:
        raise UserError(f"--set {path}: no field {name!r} ({nearest(name, list(place))})")
    if place[name] is None:
        place[name] = {}
    if not isinstance(place[name], dict):
        raise UserError(f"--set {path}: {name!r} has no fields, it is {place[name]!r}")
    return place[name]


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
