"""Every field of every config can be set, changed by a user, and read again from a file."""

import json

import pytest

from postnms.config import Config
from postnms.data.scenes.generator import ScenesConfig
from postnms.data.transforms import AugmentationConfig
from postnms.detectors import (
    BackboneConfig,
    CascadeRCNNConfig,
    DetectorConfig,
    FasterRCNNConfig,
    RetinaNetConfig,
    TorchvisionConfig,
)
from postnms.detectors.config import PyramidConfig, TwoStageConfig
from postnms.detectors.parts.pisa import PISAConfig
from postnms.experiments.config import ArmConfig, ExperimentConfig, HeuristicsConfig
from postnms.recipes import (
    DataConfig,
    EvaluationConfig,
    Recipe,
    TrainingConfig,
    override,
    parse_changes,
)
from postnms.rescoring import ContextualConfig, RelationConfig, SCEConfig
from postnms.rivals import DensityHeadConfig, HeadsConfig, IoUHeadConfig
from postnms.stage import StageConfig
from postnms.suppression import Suppressor

BACKBONE = {
    "name": "resnet18",
    "weights": "backbone.pth",
    "fpn_channels": 64,
    "norm": "frozen",
    "trainable_layers": 3,
}
EVERY = {"min_size": 96, "max_size": 160, "clustering": "eager"}
PYRAMID = {**EVERY, "backbone": BACKBONE, "aspect_ratios": [0.25, 1.0]}
TWO_STAGE = {
    **PYRAMID,
    "anchor_sizes": [8, 16, 32, 64, 128],
    "rpn_pre_nms_top_n_train": 201,
    "rpn_pre_nms_top_n_test": 101,
    "rpn_post_nms_top_n_train": 202,
    "rpn_post_nms_top_n_test": 102,
    "rpn_nms_thresh": 0.6,
    "rpn_fg_iou_thresh": 0.65,
    "rpn_bg_iou_thresh": 0.35,
    "rpn_batch_size_per_image": 128,
    "rpn_positive_fraction": 0.25,
    "rpn_smooth_l1_beta": 0.5,
    "box_batch_size_per_image": 64,
    "box_positive_fraction": 0.5,
    "box_smooth_l1_beta": 0.0,
    "box_coding": "edges",
    "box_loss": "kl",
    "box_head_width": 32,
    "box_score_thresh": 0.1,
    "box_nms_thresh": 0.45,
    "box_detections_per_img": 50,
}
SCENES = {
    "train": 4,
    "val": 2,
    "size": 64,
    "objects": [1, 3],
    "radius": [0.1, 0.2],
    "crowding": 0.5,
    "min_visible": 0.5,
}
AUGMENTATION = {
    "horizontal_flip": 0.25,
    "vertical_flip": 0.5,
    "transpose": 0.5,
    "brightness": 0.1,
    "contrast": 0.2,
    "saturation": 0.3,
    "scale": [0.5, 2.0],
    "crop": 0.5,
}
PISA = {
    "positive_k": 1.0,
    "positive_bias": 0.1,
    "negative_k": 1.5,
    "negative_bias": 0.2,
    "negative_iou_threshold": 0.4,
    "negative_score_threshold": 0.1,
    "carl_k": 2.0,
    "carl_bias": 0.3,
}
FASTER = {
    **TWO_STAGE,
    "box_fg_iou_thresh": 0.6,
    "box_bg_iou_thresh": 0.4,
    "pisa": PISA,
}
DATA = {
    "train_annotations": "a.json",
    "train_images": "train",
    "val_annotations": "b.json",
    "val_images": "val",
    "images_without_objects": False,
    "val_fraction": 0.25,
    "tuning_fraction": 0.125,
    "scenes": SCENES,
    "augmentation": AUGMENTATION,
    "cache": True,
    "max_pixels": 1000,
    "workers": 0,
}
STAGE = {
    "decoupling": False,
    "channels": 64,
    "encoding": "concat",
    "encoding_base": 10000.0,
    "width": 16,
    "shared_trunk": True,
    "clusters": False,
    "candidates": "sampled",
    "max_candidates": 99,
    "score_threshold": 0.01,
    "representative": "vote",
    "representative_rows": False,
    "members": False,
    "weighting": "cls",
    "positive_iou": 0.6,
    "member_labels": "own",
    "objectness": "iou",
    "delta_weights": [1.0, 2.0, 3.0, 4.0],
    "smooth_l1_beta": 0.25,
    "alpha": 0.5,
    "beta": 0.75,
    "fusion": [0.5, 0.25, 0.25],
    "fusion_mean": "geometric",
    "relocation": False,
    "second_nms": 0.4,
    "suppressor": "nms:iou=0.4",
    "thinning_iou": 0.7,
}
TRAINING = {
    "start_from": "weights.pth",
    "exact_weights": True,
    "freeze": "detector",
    "feature_memory": "file",
    "feature_memory_gib": 0.5,
    "iterations": 7,
    "batch_size": 2,
    "accumulation": 2,
    "optimizer": "adamw",
    "lr": 0.001,
    "momentum": 0.5,
    "weight_decay": 0.0,
    "stage_lr_factor": 2.0,
    "warmup_iterations": 1,
    "warmup_factor": 0.5,
    "schedule": "cosine",
    "steps": [3, "2 epochs"],
    "gamma": 0.5,
    "final_lr_factor": 0.5,
    "finish_iterations": "2 epochs",
    "finish_lr": 0.01,
    "average_decay": 0.9,
    "clip_norm": 1.0,
    "precision": "bf16",
    "channels_last": True,
    "log_every": 1,
    "checkpoint_every": 2,
    "evaluate_every": "1 epoch",
    "final_weights": "best",
    "trackers": ["mlflow"],
}
EVALUATION = {"batch_size": 3, "bootstrap": 5}
IOU_HEAD = {
    "width": 8,
    "loss_weight": 1.0,
    "refine_steps": 2,
    "refine_rate": 0.25,
    "refine_tolerance": 0.01,
    "refine_drop": 0.1,
}
DENSITY_HEAD = {"width": 8, "loss_weight": 0.5}
HEADS = {"iou": IOU_HEAD, "density": DENSITY_HEAD, "samples": 8, "draws": 2}
ARM = {
    "recipe": "finetune",
    "set": ["stage=null"],
    "start_from": "other",
    "freeze": "detector",
    "row": "nms",
    "methods": ["variance_voting"],
    "rescorers": {"contextual": ["epochs=2"]},
    "evaluations": {"alone": ["stage.relocation=false"]},
    "placement": True,
}
HEURISTICS = {"arms": ["one"], "methods": ["soft_nms_linear"]}
VALUES = {
    BackboneConfig: BACKBONE,
    FasterRCNNConfig: FASTER,
    RetinaNetConfig: {
        **PYRAMID,
        "anchor_sizes": [8, 16, 32, 64, 128],
        "fg_iou_thresh": 0.6,
        "bg_iou_thresh": 0.3,
        "smooth_l1_beta": 0.11,
        "topk_candidates": 60,
        "score_thresh": 0.1,
        "nms_thresh": 0.4,
        "detections_per_img": 50,
    },
    CascadeRCNNConfig: {
        **TWO_STAGE,
        "iou_thresholds": [0.4, 0.5, 0.6],
        "loss_weights": [1.0, 1.0, 0.0],
        "scoring": "mean",
    },
    TorchvisionConfig: {
        **EVERY,
        "model": "retinanet_resnet50_fpn",
        "weights": "weights.pth",
        "norm": "frozen",
        "norm_epsilon": 0.0,
        "labels": [3, 1],
        "outputs": 91,
        "options": {"score_thresh": 0.01, "topk_candidates": 60},
    },
    ScenesConfig: SCENES,
    PISAConfig: PISA,
    AugmentationConfig: AUGMENTATION,
    DataConfig: DATA,
    StageConfig: STAGE,
    TrainingConfig: TRAINING,
    EvaluationConfig: EVALUATION,
    IoUHeadConfig: IOU_HEAD,
    DensityHeadConfig: DENSITY_HEAD,
    HeadsConfig: HEADS,
    ContextualConfig: {
        "suppressor": "nms:iou=0.6",
        "hidden": 8,
        "layers": 1,
        "head": 4,
        "epochs": 2,
        "batch_size": 3,
        "lr": 0.1,
    },
    RelationConfig: {
        "min_score": 0.1,
        "max_length": 50,
        "max_detections": 10,
        "width": 8,
        "heads": 2,
        "keys": 4,
        "thresholds": [0.5, 0.7],
        "positive_weight": 1.0,
        "epochs": 2,
        "drop_after": 1,
        "lr": 0.1,
    },
    SCEConfig: {
        "min_score": 0.1,
        "max_length": 50,
        "max_detections": 10,
        "width": 8,
        "hidden": 8,
        "attention": 4,
        "nms_threshold": 0.6,
        "truth_threshold": 0.7,
        "positive_weights": [1.0, 3.0],
        "epochs": 2,
        "drop_after": 1,
        "lr": 0.1,
        "momentum": 0.5,
    },
    Recipe: {
        "name": "mine",
        "seed": 3,
        "data": DATA,
        "detector": {"kind": "faster_rcnn", **FASTER},
        "stage": {**STAGE, "candidates": "proposals"},
        "heads": HEADS,
        "suppressors": ["soft_nms_linear"],
        # A frozen detector has no finishing phase.
        "training": {**TRAINING, "finish_iterations": 0},
        "evaluation": EVALUATION,
    },
    ArmConfig: ARM,
    HeuristicsConfig: HEURISTICS,
    ExperimentConfig: {
        "title": "A question",
        "text": "Why it is asked.",
        "data": "data/mine",
        "recipe": "demo",
        "set": ["training.lr=0.1"],
        "seeds": [0, 3],
        "arms": {"one": ARM},
        "heuristics": HEURISTICS,
        "differences": [["one", "one.nms"]],
        "columns": ["AP", "APS"],
        "bootstrap": 30,
    },
}
"""A value that is not the default, as JSON has it, for every field of every config of a file."""
BASES = {Config, DetectorConfig, PyramidConfig, TwoStageConfig}
PLAIN = Recipe.parse({"training": {"iterations": 1}}, "recipe")
DETECTORS = [config for config in VALUES if issubclass(config, DetectorConfig)]


def all_below(config):
    return {config}.union(*(all_below(child) for child in config.__subclasses__()))


def test_every_config_and_every_field_has_a_value_here():
    assert all_below(Config) - BASES - all_below(Suppressor) == VALUES.keys()
    for config, values in VALUES.items():
        fields = {name: field for name, field in config.model_fields.items() if name != "kind"}
        assert values.keys() == fields.keys()
        parsed = config.parse(values, "here")
        for name, field in fields.items():
            assert field.is_required() or getattr(parsed, name) != field.default, name


@pytest.mark.parametrize("config", VALUES)
def test_a_config_comes_back_from_json(config):
    made = config.parse(VALUES[config], "here")
    assert config.model_validate_json(made.model_dump_json()) == made
    assert config.parse(json.loads(made.model_dump_json()), "here") == made
    assert config.model_validate(made.model_dump()) == made


@pytest.mark.parametrize("config", DETECTORS)
def test_a_recipe_with_every_field_of_a_detector_comes_back_from_its_file(config):
    kind = config.model_fields["kind"].default
    values = {**VALUES[Recipe], "detector": {"kind": kind, **VALUES[config]}}
    recipe = Recipe.parse(values, "recipe")
    assert recipe.detector == config.parse(VALUES[config], "here")
    assert Recipe.parse(json.loads(recipe.model_dump_json()), "recipe.json") == recipe


SECTIONS = {
    "data": DATA,
    "data.scenes": SCENES,
    "data.augmentation": AUGMENTATION,
    "stage": STAGE,
    "evaluation": EVALUATION,
    "training": {name: value for name, value in TRAINING.items() if name != "freeze"},
    "detector.backbone": {n: BACKBONE[n] for n in ("name", "weights", "fpn_channels")},
}
CHANGES = [(path, name, value) for path, part in SECTIONS.items() for name, value in part.items()]


@pytest.mark.parametrize(("path", "name", "value"), CHANGES)
def test_a_user_can_change_every_field_from_the_command_line(path, name, value):
    text = value if isinstance(value, str) else json.dumps(value)
    recipe = override(PLAIN, parse_changes([f"{path}.{name}={text}"]))
    section = recipe.model_dump(mode="json")
    for part in path.split("."):
        section = section[part]
    assert section[name] == value


@pytest.mark.parametrize("config", DETECTORS)
def test_a_user_can_change_every_field_of_a_detector_from_the_command_line(config):
    detector = {"kind": config.model_fields["kind"].default}
    if config is TorchvisionConfig:  # Options and a frozen norm belong to this model and weights.
        detector |= {name: VALUES[config][name] for name in ("model", "weights")}
    if issubclass(config, TwoStageConfig):  # The loss of variances needs it.
        detector |= {"box_coding": VALUES[config]["box_coding"]}
    plain = override(PLAIN, {"detector": detector})
    for name, value in VALUES[config].items():
        text = value if isinstance(value, str) else json.dumps(value)
        changed = override(plain, parse_changes([f"detector.{name}={text}"]))
        assert changed.detector.model_dump(mode="json")[name] == value
