"""Evaluate a run of Faster R-CNN with the stage on torchvision's own class.

    python benchmarks/attached.py RUN --data FOLDER [--out FILE]

The figures must equal those of the run. The model is built by torchvision alone and takes the
weights of the run's detector. ``from_torchvision`` puts the stage on it, with the weights of the
run's stage.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from postnms import from_torchvision
from postnms.cli.console import command_line
from postnms.data.splits import open_val
from postnms.detectors import FasterRCNNConfig
from postnms.evaluation.metrics import show
from postnms.evaluation.results import Evaluation
from postnms.files.atomic import write_json
from postnms.inference.evaluate import evaluate_detector
from postnms.runs.checkpoints import read_weights
from postnms.runs.folder import RunFolder, read_categories, read_recipe
from postnms.runs.provenance import provenance


def torchvision_model(config: FasterRCNNConfig, num_classes: int) -> FasterRCNN:
    """Return a model with a ResNet-18 or 34, built as a user of torchvision would build it."""
    body = getattr(resnet, config.backbone.name)(weights=None)
    layers = {f"layer{i}": str(i - 1) for i in range(1, 5)}
    width = config.backbone.fpn_channels
    proposals = {
        name: value for name, value in config.model_dump().items() if name.startswith("rpn_")
    }
    return FasterRCNN(
        BackboneWithFPN(body, layers, [64, 128, 256, 512], width),
        min_size=config.min_size,
        max_size=config.max_size,
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in config.anchor_sizes),
            (config.aspect_ratios,) * len(config.anchor_sizes),
        ),
        box_head=TwoMLPHead(width * 7**2, config.box_head_width),
        box_predictor=FastRCNNPredictor(config.box_head_width, num_classes + 1),
        box_score_thresh=config.box_score_thresh,
        box_nms_thresh=config.box_nms_thresh,
        box_detections_per_img=config.box_detections_per_img,
        **proposals,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    run = RunFolder(arguments.run)
    recipe = read_recipe(run)
    categories = read_categories(run)
    assert isinstance(recipe.detector, FasterRCNNConfig)
    network, stage, _ = read_weights(run.newest_weights)
    model = torchvision_model(recipe.detector, len(categories))
    model.load_state_dict(network)
    detector = from_torchvision(model, recipe.stage)
    if detector.stage is not None:
        detector.stage.load_state_dict(stage)
    data = open_val(
        recipe.data, arguments.data, categories, recipe.detector.input_size, recipe.seed
    )
    evaluation, _ = evaluate_detector(
        detector.eval(),
        data,
        batch_size=recipe.evaluation.batch_size,
        bootstrap=recipe.evaluation.bootstrap,
        seed=recipe.seed,
    )
    assert evaluation is not None, "the val split has no annotations"
    before = Evaluation.from_json(json.loads(run.metrics.read_text()))
    for row, figures in evaluation.rows.items():
        former = before.rows[row]
        print(f"{row}: AP {show(figures['AP'], 2)} attached, {show(former['AP'], 2)} in the run")
    if arguments.out:
        about = provenance(recipe.seed, arguments.data, command_line())
        trained = json.loads(run.provenance.read_text())["command"]
        gains = {row: dataclasses.asdict(gain) for row, gain in evaluation.gains.items()}
        write_json(
            arguments.out, {**about, "trained": trained, "rows": evaluation.rows, "gains": gains}
        )


if __name__ == "__main__":
    main()
