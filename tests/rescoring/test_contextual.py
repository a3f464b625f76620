"""The network of contextual rescoring: what it reads, and how it mixes."""

import pytest
import torch

from postnms.rescoring.contextual import attend, describe
from postnms.structures import Detections
from postnms.suppression import get_suppressor
from tests.support.oracles_of_rescoring import dot, mean, softmax
from tests.support.rescoring import found, sizes, tiny_rescorer


def test_what_is_read_of_a_detection():
    detections = Detections(
        torch.tensor([[10.0, 20, 30, 60], [0, 0, 50, 50]]),
        torch.tensor([0.9, 0.4]),
        torch.tensor([2, 0]),
        torch.tensor([0, 1]),
        torch.tensor([0, 0]),
        2,
    )
    read = describe(detections, torch.tensor([[200.0, 100], [50, 500]]), 3)
    assert read[0].tolist() == pytest.approx([0.9, 0, 0, 1, 0.1, 0.1, 0.2, 0.2])
    assert read[1].tolist() == pytest.approx([0.4, 1, 0, 0, 0, 0, 0.1, 1])


def test_attention_stays_within_the_image():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 4, 3, generator=generator)
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    context = attend(states, real)
    for image, length in ((0, 4), (1, 2)):
        rows = states[image, :length].tolist()
        wanted = [mean(softmax([dot(d, e) / 3**0.5 for e in rows]), rows) for d in rows]
        torch.testing.assert_close(context[image, :length], torch.tensor(wanted))


def test_boxes_and_classes_are_those_of_the_suppressor():
    candidates = found([40, 5])
    for name in ("nms", "soft_nms_linear:max_detections=7"):
        detections = tiny_rescorer(suppressor=name)(candidates, sizes(2))
        plain = get_suppressor(name)(candidates)
        for image in (0, 1):
            mine, other = detections.image == image, plain.image == image
            assert sorted(detections.source[mine].tolist()) == sorted(plain.source[other].tolist())
            assert (detections.scores[mine].diff() <= 0).all()
        assert torch.equal(detections.boxes, candidates.boxes[detections.source])
        assert torch.equal(detections.labels, candidates.labels[detections.source])
        assert detections.extra == {}


def test_the_image_size_counts():
    candidates = found([10])
    rescorer = tiny_rescorer()
    assert not torch.equal(
        rescorer(candidates, sizes(1)).scores, rescorer(candidates, 2 * sizes(1)).scores
    )
