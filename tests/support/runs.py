"""Runs on a few tiny scenes."""

import json
import sys

import pytest
from accelerate.state import AcceleratorState

from postnms.cli import main
from postnms.data.splits import open_splits
from postnms.files.tensor_files import load_tensors
from postnms.recipes import get_recipe, parse_changes
from postnms.runs.checkpoints import own_state
from postnms.runs.folder import RunFolder
from postnms.training import loop as training

TINY = [
    "data.scenes.train=6",
    "data.scenes.val=3",
    "data.scenes.size=64",
    "detector.min_size=64",
    # It has 30 times fewer weights than ResNet-18, all of which each checkpoint writes twice.
    "detector.backbone.name=timm/mobilenetv2_035",
    "detector.backbone.fpn_channels=8",
    "detector.box_head_width=8",
    "detector.rpn_post_nms_top_n_train=50",
    "stage.width=8",
    "stage.suppressor=null",
    "training.batch_size=2",
    "training.log_every=1",
    "training.warmup_iterations=2",
    "training.steps=[4]",
    "evaluation.bootstrap=20",
]


LOSSES = [
    f"loss_{name}"
    for name in ("classifier", "box_reg", "objectness", "rpn_box_reg", "stage_cls", "stage_loc")
]


def tiny(*changes):
    """The demo's recipe on scenes and with layers so small that a step takes some milliseconds."""
    return get_recipe("demo", parse_changes([*TINY, *changes]))


def splits_of(recipe, root=None):
    """The splits of a recipe, from the data folder ``root`` or from the built-in scenes."""
    return open_splits(recipe.data, root, recipe.detector.input_size, recipe.seed)


def run(folder, recipe, **options):
    """Train as a process that no run has used before; return the detector."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return training.train_splits(recipe, splits_of(recipe), RunFolder(folder), **options)[0]


def logged(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {
        row["iteration"]: {name: row[name] for name in LOSSES if name in row}
        for row in rows
        if "loss" in row
    }


SETS = [part for change in [*TINY, "training.iterations=2"] for part in ("--set", change)]


def tiny_run(tmp_path_factory, *changes):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    argv, sys.argv = sys.argv, ["postnms", "train", "demo", "--out", str(folder), *SETS, *changes]
    try:
        with pytest.raises(SystemExit):
            main()
    finally:
        sys.argv = argv
        AcceleratorState._reset_state(reset_partial_state=True)
    return folder


def contents(folder):
    """Metrics and results of each row, by the name of the file."""
    files = [folder / "metrics.json", *folder.glob("results_*.json")]
    return {file.name: json.loads(file.read_text()) for file in files}


def weights_of(run, part=""):
    """The trained weights of a run, or those of ``network.`` or ``stage.`` alone, by name."""
    own = own_state(load_tensors(run.weights)[0])
    return {
        name.removeprefix(part): tensor for name, tensor in own.items() if name.startswith(part)
    }
