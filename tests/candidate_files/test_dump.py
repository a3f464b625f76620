"""Candidates of a network on their way into a file, in original pixels."""

import dataclasses

import numpy as np
import pytest
import torch

from postnms.candidate_files.dump import dump_candidates
from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category, Dataset, Record, Truth
from postnms.data.loader import DetectionData
from postnms.structures import CLUSTER_OBJECTNESS, OBJECTNESS, REFINED, take
from tests.support.detectors import STAGE, TWO, build

SIZES = [tuple(image.shape[1:]) for image in TWO]
"""Height and width of the original images."""


def split(tmp_path):
    """Return two images of three classes, resized to half of what the network makes of them."""
    images = [(255 * image).byte().permute(1, 2, 0).numpy() for image in TWO]
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    records = [
        Record(number, tmp_path / "none.png", *image.shape[:2], *nothing, pixels=image)
        for number, image in enumerate(images, 1)
    ]
    categories = tuple(Category(label + 1, f"class {label}") for label in range(3))
    return DetectionData(Dataset(Truth(categories, {}, "memory"), tuple(records)), 48, 80)


def give_columns(network):
    """Let a network give extra columns; return the list of its inputs and candidates."""
    given = []
    own = network.candidates

    def with_columns(features, batch, *arguments):
        candidates, losses = own(features, batch, *arguments)
        spread = torch.tensor([0.0, 1.0, -2.0, 3.0])
        columns = {
            "iou": candidates.scores / 2,
            "edge_log_variance": candidates.scores[:, None] * spread,
        }
        candidates = dataclasses.replace(candidates, extra=columns)
        given.append((batch, candidates))
        return candidates, losses

    network.candidates = with_columns
    return given


@pytest.mark.parametrize("stage", [STAGE, None], ids=["with a stage", "without"])
def test_the_columns_of_a_network_arrive_in_original_pixels(tmp_path, stage):
    detector = build("faster_rcnn", stage)
    given = give_columns(detector.network)
    data, path = split(tmp_path), tmp_path / "c.safetensors"
    with CandidateWriter(path, data.dataset.categories, None, {}) as writer:
        assert dump_candidates(detector, data, writer, batch_size=2) > 10
    file = open_candidates(path)
    names = ("edge_log_variance", "iou")
    assert file.extra == (
        names if stage is None else (CLUSTER_OBJECTNESS, *names, REFINED, OBJECTNESS)
    )
    ((_, candidates),) = file.chunks()
    batch, network_candidates = given[-1]
    wanted = take(network_candidates, network_candidates.image.argsort(stable=True))
    assert torch.equal(candidates.image, wanted.image)
    assert torch.equal(candidates.scores, wanted.scores)
    pairs = zip(SIZES, batch.sizes, strict=True)
    factors = torch.tensor([(ow / w, oh / h) for (oh, ow), (h, w) in pairs])
    assert ((factors - 1).abs() > 0.01).any(dim=1).all()  # the network's pixels are others
    four = factors.repeat(1, 2)[candidates.image]
    torch.testing.assert_close(candidates.boxes, wanted.boxes * four, rtol=1e-5, atol=1e-3)
    # A variance is in square pixels, so its logarithm shifts by twice that of the factor.
    log_variance = wanted.extra["edge_log_variance"] + 2 * four.log()
    torch.testing.assert_close(candidates.extra["edge_log_variance"], log_variance)
    torch.testing.assert_close(candidates.extra["iou"], wanted.extra["iou"], rtol=0, atol=0)


def test_the_refined_boxes_are_those_of_the_stage_in_original_pixels(tmp_path):
    detector = build("faster_rcnn")
    data, path = split(tmp_path), tmp_path / "c.safetensors"
    with CandidateWriter(path, data.dataset.categories, None, {}) as writer:
        dump_candidates(detector, data, writer, batch_size=1)
    file = open_candidates(path)
    ((_, candidates),) = file.chunks()
    refined = candidates.extra[REFINED]
    assert not torch.allclose(refined, candidates.boxes, atol=1e-2)
    limits = torch.tensor([(width, height) for height, width in SIZES]).repeat(1, 2)
    assert bool((refined >= -1e-3).all())
    assert bool((refined <= limits[candidates.image] + 1e-3).all())
    # The stage's own row has the same boxes, for the keys that it kept.
    row = file.row("post_nms")
    assert len(row.scores) > 2
    for box, image, source, label in zip(
        row.boxes, row.image.tolist(), row.source.tolist(), row.labels.tolist(), strict=True
    ):
        same = (candidates.image == image) & (candidates.source == source)
        same &= candidates.labels == label
        torch.testing.assert_close(refined[same], box[None], rtol=1e-4, atol=1e-2)
