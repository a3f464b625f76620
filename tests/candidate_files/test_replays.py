"""Suppressors on the candidates of a file."""

import dataclasses
import re

import pytest
import torch

from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.replays import as_columns, replay
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category
from postnms.data.formats.coco import read_truth
from postnms.errors import UserError
from postnms.evaluation.columns import read_results
from postnms.stage.fusion import Fusion
from postnms.structures import OBJECTNESS, REFINED
from postnms.suppression import SUPPRESSORS
from tests.support.builders import random_candidates
from tests.support.studies import as_coco, small_study, write_candidates


@pytest.fixture
def file(tmp_path):
    """Return a file with candidates of five images."""
    return small_study(tmp_path).candidates


def test_replay_is_the_suppressor_on_every_image(file, monkeypatch):
    monkeypatch.setattr("postnms.candidate_files.replays.IMAGES_AT_ONCE", 2)
    ((_, whole),) = file.chunks(images=5)
    done = []
    found = replay(file, SUPPRESSORS["soft_nms_linear"], done.append).detections
    wanted = SUPPRESSORS["soft_nms_linear"](whole)
    for name in ("boxes", "scores", "labels", "image", "source"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=0, atol=0)
    assert found.num_images == 5
    assert done == [2, 2, 1]


def test_weights_that_lead_to_no_finite_scores_are_named(tmp_path):
    candidates = random_candidates(10, extra=False)
    judged = {REFINED: candidates.boxes, OBJECTNESS: torch.zeros(10)}
    path = tmp_path / "c.safetensors"
    with CandidateWriter(path, [Category(label, "") for label in range(3)], None, {}) as writer:
        writer.add(dataclasses.replace(candidates, extra=judged), [1, 2])
    for fusion in (Fusion((1e39, 0, 0)), Fusion((1, 0, -1), "geometric")):
        with pytest.raises(UserError, match=f"^fusion: {re.escape(str(fusion))}: .*finite scores"):
            replay(open_candidates(path), SUPPRESSORS["nms"], fusion=fusion)


def test_detections_become_the_columns_of_their_results(file, tmp_path):
    truth = read_truth(tmp_path / "instances_val.json")
    detections = replay(file, SUPPRESSORS["nms"]).detections
    found = as_columns(detections, file, truth)
    wanted = read_results(truth, as_coco(detections))
    assert len(found.scores) > 10
    assert found.image.tolist() == wanted.image.tolist()
    assert found.label.tolist() == wanted.label.tolist()
    assert found.boxes == pytest.approx(wanted.boxes, abs=1e-3)
    assert found.scores == pytest.approx(wanted.scores)


def test_extra_columns_come_along(tmp_path):
    candidates = random_candidates(60)
    write_candidates(tmp_path / "c.safetensors", candidates)
    replayed = replay(open_candidates(tmp_path / "c.safetensors"), SUPPRESSORS["nms"])
    assert replayed.detections.extra.keys() == candidates.extra.keys()
    assert replayed.milliseconds > 0


def test_a_column_that_the_file_lacks_is_named(file):
    with pytest.raises(UserError, match=r"c\.safetensors: AdaptiveNMS: needs the extra column"):
        replay(file, SUPPRESSORS["adaptive_nms"])


def test_a_file_without_images(tmp_path):
    with CandidateWriter(tmp_path / "c.safetensors", (), None, {}):
        pass
    replayed = replay(open_candidates(tmp_path / "c.safetensors"), SUPPRESSORS["nms"])
    assert (len(replayed.detections.scores), replayed.milliseconds) == (0, 0)
