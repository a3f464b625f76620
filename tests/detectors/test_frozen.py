"""What a frozen network gives is computed once for each image, and the training stays the same."""

import dataclasses

import pytest
import torch

from postnms.detectors.frozen import FeatureMemory
from tests.support.detectors import TARGETS, TWO, build

ROOM = 2**24


def frozen(name="faster_rcnn"):
    detector = build(name)
    detector.frozen = True
    detector.network.requires_grad_(False)
    return detector.train()


def count_images(detector):
    """Numbers of images that the body of the network sees, call by call."""
    seen = []
    detector.network.backbone.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    return seen


def losses(detector, images=TWO):
    found = detector(images, TARGETS)
    detector.zero_grad()
    sum(found.losses.values()).backward()
    gradients = {name: p.grad.clone() for name, p in detector.stage.named_parameters()}
    return found.losses, gradients


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn", "retinanet"])
def test_losses_and_gradients_are_those_without_the_memory(name):
    detector = frozen(name)
    plain = losses(detector)
    detector.memory = FeatureMemory(ROOM)
    for found in (losses(detector), losses(detector)):
        for ours, theirs in zip(found, plain, strict=True):
            assert ours.keys() == theirs.keys()
            for key, value in theirs.items():
                torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-6)


def test_an_image_goes_through_the_network_once():
    detector = frozen()
    seen = count_images(detector)
    detector.memory = FeatureMemory(ROOM)
    losses(detector)
    losses(detector)
    assert seen == [2]
    losses(detector, [TWO[0], TWO[1].flip(2)])
    assert seen == [2, 1]
    assert len(detector.memory) == 3


def test_order_of_the_images_is_kept():
    detector = frozen()
    detector.memory = FeatureMemory(ROOM)
    losses(detector)
    other = [TWO[0].flip(2), TWO[1]]
    remembered = losses(detector, other)[0]
    detector.memory = None
    for key, value in losses(detector, other)[0].items():
        torch.testing.assert_close(remembered[key], value, rtol=1e-4, atol=1e-6)


def test_an_image_in_another_padding_is_another_image():
    detector = frozen()
    seen = count_images(detector)
    detector.memory = FeatureMemory(ROOM)
    losses(detector)
    # A square second image makes the batch lower, so that the first one is padded to less.
    square = TWO[1][:, :110]
    losses(detector, [TWO[0], square])
    assert seen == [2, 2]


@pytest.mark.parametrize("room", [0, 200_000])
def test_what_is_over_the_limit_is_computed_each_time(room):
    detector = frozen()
    plain = losses(detector)[0]
    seen = count_images(detector)
    detector.memory = FeatureMemory(room)
    for _ in range(2):
        for key, value in losses(detector)[0].items():
            torch.testing.assert_close(value, plain[key], rtol=1e-4, atol=1e-6)
    kept = len(detector.memory)
    assert kept == (1 if room else 0)
    assert seen == [2, 2 - kept]


def test_a_file_holds_the_same_and_leaves_nothing(tmp_path):
    detector = frozen()
    detector.memory = FeatureMemory(ROOM)
    expected = losses(detector)[0]
    detector.memory = FeatureMemory(ROOM, tmp_path)
    for _ in range(2):
        assert losses(detector)[0] == expected
    assert list(tmp_path.iterdir()) == []


def test_detections_do_not_come_from_the_memory():
    detector = frozen()
    detector.memory = FeatureMemory(ROOM)
    losses(detector)
    seen = count_images(detector)
    with torch.no_grad():
        detector(TWO, TARGETS, detect=True)
        detector(TWO)
    assert seen == [2, 2]


def test_extra_columns_of_candidates_are_kept():
    detector = frozen()
    predictor = detector.network.roi_heads.box_predictor

    class Further(torch.nn.Module):
        def forward(self, features):
            logits, deltas = predictor(features)
            return logits, deltas, {"iou": logits.sigmoid()}

    detector.network.roi_heads.box_predictor = Further()
    memory = FeatureMemory(ROOM)
    batch = detector.network.prepare(TWO)
    candidates = detector._frozen_outputs(batch)[1]
    for _ in range(2):
        found = memory.recall(TWO, batch, detector._frozen_outputs)[1]
        assert dataclasses.asdict(found).keys() == dataclasses.asdict(candidates).keys()
        torch.testing.assert_close(found.extra["iou"], candidates.extra["iou"])
        assert torch.equal(found.image, candidates.image)
        assert torch.equal(found.source, candidates.source)
