"""A run over two processes is the run of one, but for rounding."""

import json

import pytest
import torch
from safetensors.torch import save_file

from postnms.detectors import BackboneConfig
from postnms.detectors.parts.backbone import build_backbone
from postnms.runs.folder import RunFolder
from postnms.speed.timing import torch_threads
from tests.support.processes import finish, launched, scores_by_image
from tests.support.runs import TINY, logged, run, tiny


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one(tmp_path):
    """With fixed batch norm: trained statistics are those of each process's own share."""
    torch.manual_seed(0)
    body = build_backbone(BackboneConfig(name="resnet18", fpn_channels=8), 2).body
    weights = tmp_path / "backbone.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in body.state_dict().items()}, weights)
    changes = [
        "detector.backbone.name=resnet18",
        f"detector.backbone.weights={weights}",
        "detector.backbone.norm=frozen",
        "training.iterations=5",
        "training.batch_size=4",
        "training.precision=float32",
        "data.scenes.val=5",
    ]
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    with torch_threads(1):
        run(one.root, tiny(*changes))
    sets = [part for change in [*TINY, *changes] for part in ("--set", change)]
    finish(launched(2, "postnms", "train", "demo", *sets, "--out", two.root))
    assert json.loads(two.provenance.read_text())["processes"] == 2
    losses, spread = logged(one.root), logged(two.root)
    assert len(losses) == 5
    assert losses[5]["loss_stage_cls"] > 0
    for iteration, terms in losses.items():
        assert spread[iteration] == pytest.approx(terms, rel=1e-3, abs=1e-6), iteration
    found, expected = scores_by_image(two), scores_by_image(one)
    assert sum(map(len, expected.values())) > 20
    assert found == {
        image: pytest.approx(scores, rel=1e-2, abs=1e-4) for image, scores in expected.items()
    }
