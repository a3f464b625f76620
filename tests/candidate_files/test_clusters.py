"""The clusters of a file, and where detections come from."""

import pytest
import torch

from postnms.candidate_files.clusters import clusters_of, origins
from postnms.candidate_files.reader import open_candidates
from postnms.errors import UserError
from postnms.structures import Candidates, Detections
from tests.support.candidate_files import writer


def write_file(folder, about):
    """Write two candidates of one class with an IoU of 0.6, and return the file."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 6.0]])
    zeros = torch.zeros(2, dtype=torch.int64)
    pair = Candidates(boxes, torch.tensor([0.9, 0.8]), zeros, zeros, torch.arange(2), 1)
    with writer(folder / "dump.safetensors", provenance=about) as file:
        file.add(pair, [1], {})
    return folder / "dump.safetensors"


def found(rows):
    """Return detections of (image, class, source)."""
    image, labels, source = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3).unbind(1)
    boxes = torch.tensor([0.0, 0.0, 4.0, 4.0]).expand(len(image), 4)
    return Detections(boxes, torch.ones(len(image)), labels, image, source, 3)


def test_image_class_and_source_name_a_candidate_and_the_first_one_counts():
    candidates = found([(0, 1, 7), (0, 2, 7), (1, 1, 7), (1, 1, 7)])
    asked = found([(0, 2, 7), (1, 1, 7), (0, 1, 7), (1, 2, 7), (2, 1, 7), (0, 1, 6)])
    assert origins(asked, candidates).tolist() == [1, 2, 0, -1, -1, -1]


def test_nothing_comes_from_nothing():
    assert origins(found([(0, 1, 2)]), found([])).tolist() == [-1]
    assert origins(found([]), found([(0, 1, 2)])).tolist() == []
    assert origins(found([]), found([])).tolist() == []


@pytest.mark.parametrize(("about", "keys"), [({}, 1), ({"nms_threshold": 0.9}, 2)])
def test_the_threshold_is_that_of_the_file(tmp_path, about, keys):
    file = open_candidates(write_file(tmp_path, about))
    assert len(clusters_of(file, file.part(0, 1)[0]).keys) == keys


def test_a_threshold_that_no_detector_has_is_refused(tmp_path):
    file = open_candidates(write_file(tmp_path, {"nms_threshold": "x"}))
    with pytest.raises(UserError, match=r"provenance\.nms_threshold: "):
        clusters_of(file, file.part(0, 1)[0])
