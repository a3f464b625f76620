"""The pipeline: what is computed when, and how its losses are weighed."""

import torch

from postnms.detectors import Detector
from postnms.stage import StageConfig
from postnms.suppression import get_suppressor
from tests.support.detectors import TARGETS, TWO, build


def test_alpha_weighs_the_detectors_losses_alone():
    def losses(alpha):
        detector = build("faster_rcnn", StageConfig(width=16, alpha=alpha)).train()
        torch.manual_seed(1)
        return detector(TWO, TARGETS).losses

    whole, half = losses(1.0), losses(0.5)
    for name in whole:
        torch.testing.assert_close(half[name], whole[name] * (1.0 if "stage" in name else 0.5))


@torch.no_grad()
def test_a_second_nms_gives_a_third_row():
    rows = build("faster_rcnn", StageConfig(width=16, second_nms=0.5)).eval()(TWO).rows
    assert list(rows) == ["nms", "post_nms", "post_nms_second_nms"]
    assert torch.equal(rows["nms"].image, rows["post_nms"].image)
    assert len(rows["post_nms_second_nms"].scores) <= len(rows["post_nms"].scores)


def test_what_is_computed_follows_from_the_arguments():
    for detector in (build("faster_rcnn").train(), build("faster_rcnn").eval()):
        assert detector(TWO).losses == {}
        assert detector(TWO, TARGETS).rows == {}
        assert len(detector(TWO, TARGETS).losses) == 6
        both = detector(TWO, TARGETS, detect=True)
        assert len(both.losses) == 6
        assert len(both.rows) == 2


def test_suppressors_are_those_that_their_texts_choose():
    """A whole number or a list in a text is a float or a tuple in the settings."""
    network = build("faster_rcnn", None).network
    texts = (
        "soft_nms_gaussian:sigma=1",
        "wbf:model_weights=[2,1]",
        "nms_agnostic:max_detections=7",
    )
    detector = Detector(network, suppressors=texts)
    limits = (network.max_detections, network.max_detections, 7)
    for text, limit, found in zip(texts, limits, detector.suppressors.values(), strict=True):
        expected = get_suppressor(text).model_copy(update={"max_detections": limit})
        assert repr(found) == repr(expected)
