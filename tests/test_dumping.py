"""Candidates of a network on their way into a file."""

import dataclasses

import torch

from postnms.candidate_files.columns import REFINED
from postnms.candidate_files.dump import dump_candidates
from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category, CocoDataset, Record
from postnms.data.loader import DetectionData
from tests.detectors.cases import TWO, build


def split(tmp_path):
    """Two images of three classes, resized for the network."""
    images = [(255 * image).byte().permute(1, 2, 0).numpy() for image in TWO]
    nothing = (
        torch.zeros(0, 4).numpy(),
        torch.zeros(0).long().numpy(),
        torch.zeros(0).bool().numpy(),
    )
    records = [
        Record(number, tmp_path / "none.png", *image.shape[:2], *nothing, pixels=image)
        for number, image in enumerate(images, 1)
    ]
    categories = tuple(Category(label + 1, f"class {label}") for label in range(3))
    return DetectionData(CocoDataset(categories, tuple(records), {}, "memory"), 96, 160)


def test_a_dump_with_a_stage_keeps_the_columns_of_the_network(tmp_path):
    detector = build("faster_rcnn")
    own = detector.network.candidates

    def with_column(*arguments):
        candidates, losses = own(*arguments)
        return dataclasses.replace(candidates, extra={"iou": candidates.scores / 2}), losses

    detector.network.candidates = with_column
    data, path = split(tmp_path), tmp_path / "c.safetensors"
    with CandidateWriter(path, data.dataset.categories, None, {}) as writer:
        assert dump_candidates(detector, data, writer, batch_size=2) > 10
    file = open_candidates(path)
    assert file.extra == ("iou", REFINED)
    for _, candidates in file.chunks():
        torch.testing.assert_close(candidates.extra["iou"], candidates.scores / 2)
