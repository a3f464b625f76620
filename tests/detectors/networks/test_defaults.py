"""What a detector gives does not depend on torch's default dtype and default device."""

from contextlib import contextmanager

import pytest
import torch

from postnms.stage import StageConfig
from tests.support.detectors import CASES, TARGETS, TWO, build, freeze_statistics

IMAGES = [TWO[0], (TWO[1] * 255).to(torch.uint8)]
SOME = {"width": 16, "max_candidates": 32, "positive_iou": 0.05}
VOTE = {"representative": "vote", "encoding": "concat", "second_nms": 0.5}


@contextmanager
def other_defaults():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def results(detector):
    """All that a detector gives: rows, losses, and the candidates of a trace."""
    with torch.no_grad():
        trace = detector.eval().trace(IMAGES)
        rows = detector(IMAGES).rows
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in (1, 2)]
    losses = detector.train()(IMAGES, TARGETS, generators=generators).losses
    sum(losses.values()).backward()
    parts = {**rows, "candidates": trace.candidates}
    columns = ("boxes", "scores", "labels", "image", "source")
    found = {f"{n} {c}": getattr(part, c) for n, part in parts.items() for c in columns}
    return found | {name: loss.detach() for name, loss in losses.items()}


@pytest.mark.parametrize(
    ("name", "stage"),
    [*((name, SOME) for name in CASES), ("faster_rcnn", None), ("faster_rcnn", SOME | VOTE)],
)
def test_defaults_of_torch_change_nothing(name, stage):
    detector = build(name, None if stage is None else StageConfig(**stage))
    freeze_statistics(detector)
    expected = results(detector)
    with other_defaults():
        found = results(detector)
    assert found.keys() == expected.keys()
    for term, value in expected.items():
        assert (found[term].dtype, found[term].device) == (value.dtype, value.device), term
        assert torch.equal(found[term], value), term
    assert expected["nms boxes"].dtype == torch.float32
