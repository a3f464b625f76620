"""How often the host waits for a GPU, counted on a device that says it is one."""

import operator

import pytest
import torch

from postnms.clustering import cluster
from postnms.detectors import Detector
from postnms.detectors.image_batch import check_images
from postnms.detectors.parts.pisa import PISAConfig
from postnms.structures import Candidates, Detections, Targets, move, take
from tests.support.detectors import CASES, EXAMPLE, TARGETS, TWO, build
from tests.support.fake_device import GPU, fake_device, to_gpu

MOST_OF_FORWARD = 12
MOST_OF_STAGE = 4
MOST_OF_LOSSES = {"faster_rcnn": 16, "retinanet": 19}
OWN = [name for name in CASES if name != EXAMPLE]
"""Detectors of the library: the structures of another network are checked where it builds them."""


@pytest.fixture
def device(monkeypatch):
    with fake_device(monkeypatch) as entered:
        yield entered


def waits_of(device, call):
    """Waits by place of the second call: the first one moves constants of torchvision's modules."""
    call()
    device.waits.clear()
    call()
    return device.beside_clustering()


OPERATIONS = {
    "a value": (1, lambda x: float(x[0])),
    "a truth": (1, lambda x: bool((x > 0).any())),
    "a list": (1, lambda x: x.tolist()),
    "to the host": (1, lambda x: x.cpu()),
    "equal": (1, lambda x: torch.equal(x, x)),
    "rows of a mask": (1, lambda x: x[x > 0]),
    "nonzero": (1, lambda x: x.nonzero()),
    "masked_select": (1, lambda x: x.masked_select(x > 0)),
    "unique": (1, lambda x: x.unique()),
    "bincount": (2, lambda x: x.long().bincount()),
    "a constant": (1, lambda x: x + torch.tensor([1.0, 2, 3], device=x.device)),
    "an index of the host": (1, lambda x: x[[0, 2]]),
    "unknown repeats": (1, lambda x: x.repeat_interleave(x.long())),
    "values at a mask": (1, lambda x: operator.setitem(x, x > 1, x[:1] * x[1:2])),
    "one value at a mask": (0, lambda x: operator.setitem(x, x > 1, 7.0)),
    "known repeats": (0, lambda x: x.repeat_interleave(x.long(), output_size=6)),
    "known rows": (0, lambda x: torch.nonzero_static(x > 1, size=2)),
    "where": (0, lambda x: torch.where(x > 1, x, 0.0)),
    "an index": (0, lambda x: x[x.long() - 1]),
    "sorting": (0, lambda x: x.sort().values.topk(2).indices),
    "zeros": (0, lambda x: x + torch.zeros(3, device=x.device)),
    "pinned": (0, lambda x: torch.ones(3).pin_memory().to(x.device, non_blocking=True)),
    "not pinned": (1, lambda x: torch.ones(3).to(x.device, non_blocking=True)),
}
"""Number of waits of an operation on the values 1, 2, 3."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_device_counts_what_waits(name, device):
    expected, call = OPERATIONS[name]
    given = to_gpu(torch.tensor([1.0, 2, 3]))
    assert given.device == GPU
    call(given)
    assert len(device.waits) == expected


def test_the_device_computes_and_keeps_its_tensors_apart(device):
    given = to_gpu(torch.tensor([1.0, 2, 3]))
    part = given[1:]
    part.mul_(10)
    assert given.tolist() == [1, 20, 30]
    with pytest.raises(RuntimeError, match="on the same device"):
        given + torch.ones(3)


@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_a_forward_of_two_images_waits_at_most_twelve_times(name, device):
    detector = to_gpu(build(name).eval())
    given = [to_gpu(image) for image in TWO]
    found = waits_of(device, lambda: detector(given))
    assert 0 < found.total() <= MOST_OF_FORWARD, found


@torch.no_grad()
def test_images_in_8_bits_are_in_their_range_without_a_look(device):
    given = [to_gpu((image * 255).to(torch.uint8)) for image in TWO]
    check_images(given)
    assert not device.waits
    check_images([image / 255 for image in given])
    assert len(device.waits) == 1


@pytest.mark.parametrize("name", ["faster_rcnn", "ssdlite"])
@torch.no_grad()
def test_the_stage_waits_at_most_four_times(name, device):
    detector: Detector = to_gpu(build(name).eval())
    batch = detector.network.prepare([to_gpu(image) for image in TWO])
    features = detector.network.features(batch)
    candidates, _ = detector.network.candidates(features, batch)

    def run():
        # New clusters: the number of their keys is read once.
        detector.stage.detect(features, batch.sizes, cluster(candidates, 0.5), 100)

    found = waits_of(device, run)
    assert 0 < found.total() <= MOST_OF_STAGE, found


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
@torch.no_grad()
def test_the_path_of_a_gpu_gives_the_detections_of_the_cpu(name, device):
    detector = build(name).eval()
    expected = detector(TWO).rows
    on_gpu = to_gpu(detector)([to_gpu(image) for image in TWO]).rows
    assert on_gpu.keys() == expected.keys()
    for row, found in on_gpu.items():
        found = move(found, "cpu")
        assert len(found.scores) == len(expected[row].scores) > 0
        assert torch.equal(found.image, expected[row].image)
        torch.testing.assert_close(found.scores, expected[row].scores)
        torch.testing.assert_close(found.boxes, expected[row].boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_the_losses_wait_no_more_often_than_the_page_on_performance_says(name, device):
    detector = to_gpu(build(name).train())
    given, targets = [to_gpu(image) for image in TWO], move(TARGETS, GPU)
    found = waits_of(device, lambda: detector(given, targets))
    assert 0 < found.total() <= MOST_OF_LOSSES[name], found


@pytest.mark.parametrize(
    "changes",
    [{"box_coding": "edges", "box_loss": "kl"}, {"pisa": PISAConfig()}],
    ids=["kl", "pisa"],
)
def test_other_losses_of_the_box_head_wait_no_more_often(changes, device):
    detector = to_gpu(build("faster_rcnn", **changes).train())
    given, targets = [to_gpu(image) for image in TWO], move(TARGETS, GPU)
    found = waits_of(device, lambda: detector(given, targets))
    assert 0 < found.total() <= MOST_OF_LOSSES["faster_rcnn"], found


def some_candidates(score=0.5):
    zeros = to_gpu(torch.zeros(2, dtype=torch.int64))
    boxes = to_gpu(torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5]]))
    scores = to_gpu(torch.tensor([0.9, score]))
    return Candidates(boxes, scores, zeros, zeros, zeros, 1, {"iou": scores})


def test_what_a_user_builds_is_checked_with_one_wait_and_named(device):
    some = some_candidates()
    assert len(device.waits) == 1
    with pytest.raises(ValueError, match=r"Candidates.scores: expected finite values, got nan"):
        some_candidates(torch.nan)
    device.waits.clear()
    kept = take(some, to_gpu(torch.tensor([1])))
    Detections(kept.boxes, kept.scores, kept.labels, kept.image, kept.source, 1)
    assert len(device.waits) == 1


def test_targets_of_a_user_are_checked_on_the_device(device):
    detector = to_gpu(build("retinanet").train())
    given = [to_gpu(image) for image in TWO]
    wrong = Targets(TARGETS.boxes, TARGETS.labels + 3, TARGETS.image, TARGETS.crowd, 2)
    with pytest.raises(ValueError, match=r"targets.labels: expected 0 to 2, got 5"):
        detector(given, move(wrong, GPU))
