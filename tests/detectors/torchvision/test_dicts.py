"""torchvision's lists of dicts as targets and as detections: one rule says what a label means."""

import copy

import pytest
import torch

from postnms.detectors import from_torchvision
from postnms.detectors.torchvision.dicts import targets_of_dicts
from postnms.structures import Targets
from tests.support.detectors import (
    TARGETS,
    TWO,
    as_dicts,
    build,
    freeze_statistics,
    random_torchvision,
    small_faster_rcnn,
)


def losses_of(detector, targets):
    torch.manual_seed(0)
    return detector.train()(TWO, targets).losses


@pytest.mark.parametrize(("model", "first"), [("faster_rcnn", 1), ("ssdlite", 1), ("fcos", 0)])
def test_dicts_of_a_model_mean_what_they_mean_to_it(model, first):
    detector = build_from(model)
    freeze_statistics(detector)
    assert detector.dict_labels == tuple(range(first, first + 3))
    expected = losses_of(detector, TARGETS)
    found = losses_of(detector, as_dicts(TARGETS, first))
    assert {name: float(loss.detach()) for name, loss in found.items()} == {
        name: float(loss.detach()) for name, loss in expected.items()
    }


def build_from(model):
    if model == "faster_rcnn":
        return from_torchvision(small_faster_rcnn())
    if model == "ssdlite":
        return from_torchvision(random_torchvision("ssdlite320_mobilenet_v3_large", num_classes=4))
    from tests.support.detectors import fcos, made_uneven

    torch.manual_seed(0)
    return from_torchvision(made_uneven(fcos()))


def test_detections_are_the_dicts_of_torchvision():
    model = small_faster_rcnn(box_score_thresh=0.2)
    detector = from_torchvision(copy.deepcopy(model), None)
    with torch.no_grad():
        expected = model.eval()(TWO)
        found = detector.eval()(TWO).to_torchvision()
    for one, other in zip(found, expected, strict=True):
        assert len(other["labels"]) > 2
        assert one.keys() == other.keys()
        assert torch.equal(one["labels"], other["labels"])
        assert int(one["labels"].min()) >= 1
        assert torch.allclose(one["boxes"], other["boxes"], atol=1e-3)
        assert torch.allclose(one["scores"], other["scores"], atol=1e-5)


def test_chosen_labels_keep_their_numbers():
    detector = from_torchvision(small_faster_rcnn(num_classes=9), labels=[2, 7, 5])
    assert detector.dict_labels == (2, 7, 5)
    dicts = as_dicts(TARGETS)
    for part in dicts:
        part["labels"] = torch.tensor(detector.dict_labels)[part["labels"]]
    assert torch.equal(targets_of_dicts(dicts, detector.dict_labels).labels, TARGETS.labels)
    rows = detector.eval()(TWO)
    for index, found in enumerate(rows.to_torchvision("nms")):
        row = rows.rows["nms"]
        own = row.labels[row.image == index]
        assert found["labels"].tolist() == [(2, 7, 5)[label] for label in own]


def test_a_detector_of_the_library_counts_from_0():
    detector = build("faster_rcnn")
    assert detector.dict_labels == (0, 1, 2)
    freeze_statistics(detector)
    expected, found = losses_of(detector, TARGETS), losses_of(detector, tuple(as_dicts(TARGETS)))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    detector.eval()
    with torch.no_grad():
        output = detector(TWO)
    assert torch.equal(
        torch.cat([part["boxes"] for part in output.to_torchvision()]),
        output.rows["post_nms"].boxes,
    )


def test_crowd_regions_and_images_without_objects_are_read():
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    crowd = {
        "boxes": torch.tensor([[0.0, 0, 9, 9], [1, 1, 5, 5]]),
        "labels": torch.tensor([1, 2]),
        "iscrowd": torch.tensor([0, 1]),
        "area": torch.tensor([81.0, 16]),
    }
    targets = targets_of_dicts([nothing, crowd], (1, 2))
    assert targets.crowd.tolist() == [False, True]
    assert (targets.image.tolist(), targets.labels.tolist()) == ([1, 1], [0, 1])
    assert isinstance(targets, Targets)


@pytest.mark.parametrize(
    ("labels", "dict_labels", "message"),
    [
        ([1, 0], (1, 2, 3), r"^targets\[1\]\['labels'\]: expected labels from 1 to 3, got 0$"),
        ([1, 4], (1, 2, 3), r"^targets\[1\]\['labels'\]: expected labels from 1 to 3, got 4$"),
        ([1, 99], (0, 1), r"^targets\[1\]\['labels'\]: expected labels from 0 to 1, got 99$"),
        ([2, 3], (2, 7, 5), "expected labels among the 3 of the classes, from 2 to 7, got 3$"),
        ([2, -1], (2, 7, 5), r"^targets\[1\]\['labels'\]: expected labels from 0 on, got -1"),
    ],
)
def test_a_label_of_no_class_is_named(labels, dict_labels, message):
    box = torch.tensor([[0.0, 0, 9, 9]])
    dicts = [{"boxes": box, "labels": torch.tensor([label])} for label in labels]
    with pytest.raises(ValueError, match=message):
        targets_of_dicts(dicts, dict_labels)


def test_an_output_says_which_rows_it_has():
    detector = build("faster_rcnn").eval()
    with torch.no_grad():
        output = detector(TWO)
        with pytest.raises(ValueError, match=r"^row: .* has nms, post_nms; got 'best'$"):
            output.to_torchvision("best")
        with pytest.raises(ValueError, match="they need detect=True; got None"):
            detector(TWO, TARGETS).to_torchvision()
