"""The fields that training alone reads are those that change nothing in a trained detector."""

import pytest
import torch

from postnms.detectors import (
    BackboneConfig,
    CascadeRCNNConfig,
    FasterRCNNConfig,
    RetinaNetConfig,
    build_detector,
)
from postnms.recipes import Recipe, override
from postnms.rivals import DensityHeadConfig, HeadsConfig, IoUHeadConfig
from postnms.stage import StageConfig
from tests.recipes.test_every_field import VALUES

BACKBONE = BackboneConfig(name="timm/mobilenetv2_035", fpn_channels=8)
SMALL = {"backbone": BACKBONE, "min_size": 64, "max_size": 96}
TWO_STAGE = {**SMALL, "box_head_width": 8, "box_score_thresh": 0.0}
DETECTORS = {
    "faster_rcnn": FasterRCNNConfig(**TWO_STAGE),
    "cascade_rcnn": CascadeRCNNConfig(**TWO_STAGE),
    "retinanet": RetinaNetConfig(**SMALL, score_thresh=0.0),
}
# Each part of it is in use, so that each of its fields has an effect.
STAGE = StageConfig(width=8, suppressor="soft_nms_linear", second_nms=0.7)
HEADS = HeadsConfig(iou=IoUHeadConfig(width=8), density=DensityHeadConfig(width=8))
FASTER = Recipe.parse({"training": {"iterations": 1}}, "recipe").model_copy(
    update={"detector": DETECTORS["faster_rcnn"], "stage": STAGE, "heads": HEADS}
)
IMAGES = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))


def shapes(weights):
    return {name: tensor.shape for name, tensor in weights.items()}


def detections(recipe, weights=None):
    """Return the weights of a detector and all boxes, scores and labels of its rows.

    None in place of the rows: ``weights`` do not fit.
    """
    torch.manual_seed(0)
    detector = build_detector(recipe.detector, recipe.stage, 2, heads=recipe.heads).eval()
    if weights is not None:
        if shapes(weights) != shapes(detector.state_dict()):
            return weights, None
        detector.load_state_dict(weights)
    with torch.no_grad():
        rows = detector(list(IMAGES)).rows
    return detector.state_dict(), {
        name: (row.boxes.tolist(), row.scores.tolist(), row.labels.tolist())
        for name, row in rows.items()
    }


@pytest.fixture(scope="module")
def trained():
    """Weights and detections of the whole detector."""
    found = detections(FASTER)
    assert all(len(boxes) > 3 for boxes, _, _ in found[1].values())
    return found


@pytest.mark.parametrize("name", VALUES[StageConfig])
def test_every_other_field_of_the_stage_has_an_effect(trained, name):
    weights, before = trained
    changed = override(FASTER, {f"stage.{name}": VALUES[StageConfig][name]})
    has_effect = detections(changed, weights)[1] != before
    assert has_effect == (name not in StageConfig.training_only())


@pytest.mark.parametrize("config", [HeadsConfig, IoUHeadConfig, DensityHeadConfig])
def test_fields_of_heads_without_an_effect(trained, config):
    weights, before = trained
    place = {HeadsConfig: "", IoUHeadConfig: "iou.", DensityHeadConfig: "density."}[config]
    values = VALUES[config]
    changes = {f"heads.{place}{name}": values[name] for name in config.training_only()}
    assert changes
    assert detections(override(FASTER, changes), weights)[1] == before


@pytest.mark.parametrize("kind", DETECTORS)
def test_fields_of_detectors_without_an_effect(kind):
    recipe = FASTER.model_copy(update={"detector": DETECTORS[kind], "heads": HeadsConfig()})
    weights, before = detections(recipe)
    config = type(recipe.detector)
    names = config.training_only()
    assert names <= VALUES[config].keys()
    changes = {f"detector.{name}": VALUES[config][name] for name in names}
    assert detections(override(recipe, changes), weights)[1] == before
