"""The structures of a batch: what they refuse, and how rows are taken, moved and rescaled."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.orders import top_per_image
from postnms.structures import (
    EXTRA_COLUMNS,
    REFINED,
    Candidates,
    Clusters,
    Detections,
    Targets,
    as_detections,
    concatenate_detections,
    limit,
    move,
    of_image,
    rescale,
    take,
)


def candidates(**changes):
    columns = {
        "boxes": torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 9, 9]]),
        "scores": torch.tensor([0.9, 0.5, 0.7]),
        "labels": torch.tensor([1, 0, 1]),
        "image": torch.tensor([0, 2, 2]),
        "source": torch.tensor([7, 0, 3]),
        "num_images": 3,
    }
    return Candidates(**(columns | changes))


def test_the_number_of_images_may_be_of_numpy():
    found = limit(candidates(num_images=np.int64(3)), 1)
    assert (found.source.tolist(), found.num_images) == ([7, 3], 3)


BAD = [
    ({"boxes": torch.zeros(3, 5)}, r"Candidates.boxes: expected torch.float32 of shape \(3, 4\)"),
    ({"boxes": torch.zeros(3, 4, dtype=torch.float64)}, "got torch.float64"),
    (
        {"boxes": torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [5, 0, 1, 1]])},
        r"x1 <= x2.*\[5.0, 0.0, 1.0, 1.0\] in row 2",
    ),
    ({"boxes": torch.full((3, 4), float("nan"))}, "Candidates.boxes: expected finite values"),
    ({"scores": torch.zeros(2)}, r"Candidates.scores: expected torch.float32 of shape \(3,\)"),
    (
        {"scores": torch.tensor([0, float("inf"), 0])},
        "Candidates.scores: expected finite values, got inf in row 1",
    ),
    ({"scores": [0.1, 0.2, 0.3]}, "Candidates.scores: expected a tensor, got list"),
    ({"labels": torch.tensor([0, -1, 0])}, "Candidates.labels: expected values >= 0, got -1"),
    ({"labels": torch.zeros(3)}, "Candidates.labels: expected torch.int64"),
    (
        {"image": torch.tensor([0, 1, 3])},
        "Candidates.image: expected values from 0 to 2, got 0 to 3",
    ),
    ({"image": torch.tensor([0, -1, 2])}, "Candidates.image"),
    (
        {"source": torch.zeros(3, dtype=torch.int64, device="meta")},
        "Candidates.source: expected device cpu",
    ),
    ({"num_images": -1}, "Candidates.num_images: expected an int >= 0, got -1"),
    (
        {"extra": {"iou": torch.zeros(2)}},
        r"Candidates.extra\['iou'\]: expected torch.float32 of shape \(3,\)",
    ),
    (
        {"extra": {"iou": torch.zeros(3).long()}},
        r"Candidates.extra\['iou'\]: expected torch.float32 of \(n,\) or",
    ),
    ({"extra": {"scores": torch.zeros(3)}}, r"Candidates.extra\['scores'\]: expected another name"),
    ({"extra": {"iou": [1, 2, 3]}}, r"Candidates.extra\['iou'\]: .*got list"),
    (
        {"extra": {"iou": torch.full((3,), torch.nan)}},
        r"Candidates.extra\['iou'\]: expected finite values, got nan in row 0",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_columns_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        candidates(**change)


def test_structures_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        candidates().scores = torch.zeros(3)


def test_targets_check_the_crowd_column():
    with pytest.raises(ValueError, match=r"Targets.crowd: expected torch.bool of shape \(1,\)"):
        Targets(torch.zeros(1, 4), torch.zeros(1).long(), torch.zeros(1).long(), torch.zeros(1), 1)


@pytest.mark.parametrize(
    ("keys", "assignment", "message"),
    [
        ([3], [0, 0, 0], "keys: expected values from 0 to 2"),
        ([0], [0, 1, 0], "assignment"),
        ([0], [0, 0], "shape"),
        ([0, 2], [1, 0, 1], "every key owns itself"),
        ([0, 0], [1, 1, 1], "every key owns itself"),
    ],
)
def test_clusters_check_their_indices(keys, assignment, message):
    with pytest.raises(ValueError, match=message):
        Clusters(candidates(), torch.tensor(keys), torch.tensor(assignment))


def test_empty_structures_are_normal():
    none = take(candidates(), torch.zeros(0, dtype=torch.int64))
    assert none.boxes.shape == (0, 4)
    assert none.num_images == 3
    assert of_image(none, 1).num_images == 1


def test_groups_tell_image_and_class_apart():
    some = candidates(labels=torch.tensor([1, 0, 1]), image=torch.tensor([0, 1, 1]))
    assert len(set(some.groups.tolist())) == 3
    same = candidates(labels=torch.tensor([1, 1, 1]), image=torch.tensor([2, 2, 2]))
    assert len(set(same.groups.tolist())) == 1


def test_take_by_index_and_by_mask():
    by_index, by_mask = (
        take(candidates(), rows)
        for rows in (torch.tensor([2, 0]), torch.tensor([True, False, True]))
    )
    assert by_index.source.tolist() == [3, 7]
    assert by_mask.source.tolist() == [7, 3]


def test_of_image_counts_its_rows_from_zero():
    part = of_image(candidates(), 2)
    assert (part.source.tolist(), part.image.tolist(), part.num_images) == ([0, 3], [0, 0], 1)


def test_move_keeps_everything():
    moved = move(candidates(), "cpu")
    assert torch.equal(moved.boxes, candidates().boxes)
    assert moved.num_images == 3


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3]), st.integers(0, 3)), max_size=20),
    st.integers(1, 4),
)
def test_top_per_image_by_sorting(rows, most):
    scores = torch.tensor([score for score, _ in rows], dtype=torch.float32)
    image = torch.tensor([index for _, index in rows], dtype=torch.int64)
    expected = []
    for index in range(4):
        mine = [row for row in range(len(rows)) if rows[row][1] == index]
        expected += sorted(mine, key=lambda row: (-rows[row][0], row))[:most]
    assert top_per_image(scores, image, 4, most).tolist() == expected


def test_extra_columns_go_where_their_rows_go():
    extra = {
        "iou": torch.tensor([0.1, 0.2, 0.3]),
        "edge_log_variance": torch.arange(12.0).view(3, 4),
    }
    taken = take(candidates(extra=extra), torch.tensor([2, 0]))
    assert taken.extra["iou"].tolist() == pytest.approx([0.3, 0.1])
    assert taken.extra["edge_log_variance"][0].tolist() == [8, 9, 10, 11]
    assert of_image(candidates(extra=extra), 2).extra["iou"].tolist() == pytest.approx([0.2, 0.3])


def test_a_column_with_a_gradient_is_named():
    with pytest.raises(ValueError, match=r"Candidates.scores: expected a constant.*detach it"):
        candidates(scores=torch.zeros(3, requires_grad=True))
    with pytest.raises(ValueError, match=r"Candidates.iou: expected a constant"):
        candidates(extra={"iou": torch.zeros(3, requires_grad=True)})


def test_candidates_become_detections_with_all_columns():
    some = candidates(extra={"iou": torch.tensor([0.1, 0.2, 0.3])})
    found = as_detections(some)
    assert isinstance(found, Detections)
    for name in ("boxes", "scores", "labels", "image", "source"):
        assert torch.equal(getattr(found, name), getattr(some, name))
    assert torch.equal(found.extra["iou"], some.extra["iou"])
    assert found.num_images == 3


def test_a_limit_keeps_the_best_of_each_image():
    assert limit(candidates(), None).source.tolist() == [7, 0, 3]
    assert limit(candidates(), 1).source.tolist() == [7, 3]
    assert limit(candidates(), 5).source.tolist() == [7, 3, 0]


LOG2 = 0.6931472
# The factors of x and y of image 0 are 2 and 4; those of image 1 are 1/2 and 1.
FACTORS = torch.tensor([[2.0, 4.0], [0.5, 1.0]])
BOXES = torch.tensor([[1.0, 2, 3, 4], [10, 20, 30, 40]])
SCALED_BOXES = [[2, 8, 6, 16], [5, 20, 15, 40]]
BY_UNIT = {
    "none": {1: ([0.25, 0.75], [0.25, 0.75])},
    "box": {4: ([[1, 2, 3, 4], [10, 20, 30, 40]], SCALED_BOXES)},
    "edge_log_variance": {
        4: (
            [[0, 0, 1, -1], [0, 2, 0, 2]],
            [[2 * LOG2, 4 * LOG2, 1 + 2 * LOG2, -1 + 4 * LOG2], [-2 * LOG2, 2, -2 * LOG2, 2]],
        )
    },
}
"""A column before and after scaling, by unit and width, worked by hand."""


def scaled_case(kind, **extra):
    """Return two rows, one of each image, with the extra columns."""
    two = torch.arange(2)
    columns = {name: torch.tensor(column, dtype=torch.float32) for name, column in extra.items()}
    return kind(BOXES, torch.tensor([0.9, 0.8]), two, two, two, 2, columns)


@pytest.mark.parametrize("kind", [Candidates, Detections])
@pytest.mark.parametrize("name", EXTRA_COLUMNS)
def test_rescaling_converts_boxes_and_every_known_column_by_its_unit(kind, name):
    known = EXTRA_COLUMNS[name]
    before, after = BY_UNIT[known.unit][known.width]
    found = rescale(scaled_case(kind, **{name: before}), FACTORS)
    assert isinstance(found, kind)
    assert found.boxes.tolist() == SCALED_BOXES
    torch.testing.assert_close(found.extra[name], torch.tensor(after, dtype=torch.float32))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert (found.image.tolist(), found.num_images) == ([0, 1], 2)


def test_rescaling_leaves_unknown_columns_as_they_are():
    columns = {"mine": [0.5, 7.0], "corners": [[1.0, 2, 3, 4], [5, 6, 7, 8]]}
    found = rescale(scaled_case(Candidates, **columns), FACTORS)
    assert {name: column.tolist() for name, column in found.extra.items()} == columns


def test_undone_scaling_divides_so_that_nothing_is_lost():
    random = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 1000, (200, 2), generator=random).float()
    boxes = torch.cat([corners, corners + torch.randint(0, 50, (200, 2), generator=random)], 1)
    image = torch.arange(200) % 2
    variance = torch.zeros(200, 4)
    extra = {REFINED: boxes.flip(0), "edge_log_variance": variance, "mine": image.float()}
    given = Candidates(boxes, torch.rand(200), image, image, torch.arange(200), 2, extra)
    factors = torch.tensor([[3.0, 7.0], [11.0, 1.0]])
    # Whole numbers of pixels times these factors are exact, and the inverse factors are not.
    assert not torch.equal(boxes * 7 * (1 / torch.tensor(7.0)), boxes)
    scaled = rescale(given, factors)
    assert not torch.equal(scaled.boxes, given.boxes)
    back = rescale(scaled, factors, undo=True)
    assert torch.equal(back.boxes, given.boxes)
    for name, column in extra.items():
        assert torch.equal(back.extra[name], column)


def test_rescaling_nothing():
    none = take(scaled_case(Candidates, iou=[0.1, 0.2]), torch.zeros(0, dtype=torch.int64))
    found = rescale(none, FACTORS)
    assert (found.boxes.shape, found.extra["iou"].shape) == ((0, 4), (0,))


def test_concatenated_detections_carry_their_columns():
    first = scaled_case(Detections, iou=[0.1, 0.2], edges=[[1, 2, 3, 4], [5, 6, 7, 8]])
    second = dataclasses.replace(first, image=first.image + 2, num_images=4)
    first = dataclasses.replace(first, num_images=4)
    found = concatenate_detections([first, second], 4)
    assert (found.image.tolist(), found.num_images) == ([0, 1, 2, 3], 4)
    assert found.boxes.tolist() == 2 * BOXES.tolist()
    assert found.extra["iou"].tolist() == pytest.approx([0.1, 0.2, 0.1, 0.2])
    assert found.extra["edges"].tolist() == 2 * [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_detections_with_other_columns_are_not_concatenated():
    first = scaled_case(Detections, iou=[0.1, 0.2])
    for second in (scaled_case(Detections), scaled_case(Detections, density=[0.1, 0.2])):
        with pytest.raises(ValueError, match=r"parts: expected the extra columns \['iou'\] in all"):
            concatenate_detections([first, second], 2)


def test_no_parts_are_no_detections():
    found = concatenate_detections([], 3)
    assert (found.boxes.shape, found.num_images, found.extra) == ((0, 4), 3, {})


@pytest.mark.parametrize(("device", "waits"), [("cpu", True), ("meta", False)])
def test_a_move_to_the_cpu_waits_for_the_copy(device, waits, monkeypatch):
    calls = []
    original = torch.Tensor.to

    def recorded(tensor, *arguments, **options):
        calls.extend(options.values())
        return original(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "to", recorded)
    with contextlib.suppress(RuntimeError, NotImplementedError):  # meta tensors hold no values
        move(candidates(), device)
    assert calls
    assert set(calls) == {not waits}


def dicts(**changes):
    """Two images with one and no object, as torchvision's detectors take them."""
    objects = {
        "boxes": torch.tensor([[1, 2, 3, 4], [0, 0, 9, 9]]),
        "labels": torch.tensor([3, 1], dtype=torch.int32),
        "iscrowd": torch.tensor([0, 1]),
        "image_id": 7,
    }
    nothing = {"boxes": torch.zeros(0, 4, dtype=torch.float64), "labels": torch.zeros(0).long()}
    return [nothing, objects | changes]


def test_dicts_of_torchvision_become_targets():
    for first, labels in ((1, [2, 0]), (0, [3, 1])):
        targets = Targets.from_dicts(dicts(), labels_from=first)
        assert targets.boxes.tolist() == [[1, 2, 3, 4], [0, 0, 9, 9]]
        assert targets.labels.tolist() == labels
        assert (targets.image.tolist(), targets.num_images) == ([1, 1], 2)
        assert targets.crowd.tolist() == [False, True]
    no_crowds = Targets.from_dicts(
        [{name: part[name] for name in ("boxes", "labels")} for part in dicts()], labels_from=1
    )
    assert no_crowds.crowd.tolist() == [False, False]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "dicts: expected one for each image, got none"),
        ([3], r"dicts\[0\]: expected a dict with boxes and labels, got int"),
        ([{"boxes": 1}], r"dicts\[0\]: expected a dict with boxes and labels, got \['boxes'\]"),
        (dicts(labels=torch.tensor([3, 0])), r"dicts\[1\]\['labels'\]: .* from 1 on, got 0"),
        (
            dicts(labels=torch.tensor([3.0, 1])),
            r"\['labels'\]: expected integers, got torch.float32",
        ),
        (dicts(labels=[3, 1]), r"dicts\[1\]\['boxes'\]: expected a tensor \(0, 4\), got \(2, 4\)"),
        (dicts(boxes=torch.zeros(2, 5)), r"\['boxes'\]: expected a tensor \(2, 4\), got \(2, 5\)"),
        (dicts(boxes=[[1, 2, 3, 4]]), r"\['boxes'\]: expected a tensor \(2, 4\), got list"),
        (dicts(iscrowd=torch.zeros(3)), r"\['iscrowd'\]: expected a tensor \(2,\), got \(3,\)"),
        (dicts(boxes=torch.tensor([[3.0, 0, 1, 1]] * 2)), r"Targets.boxes: expected x1 <= x2"),
    ],
)
def test_dicts_of_another_form_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        Targets.from_dicts(given, labels_from=1)


def test_structures_do_not_depend_on_the_default_dtype_and_device():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            nothing = concatenate_detections([], 3)
        targets = Targets.from_dicts(dicts(), labels_from=1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert nothing.boxes.dtype == nothing.scores.dtype == torch.float32
    assert nothing.boxes.device == nothing.source.device == torch.device("cpu")
    assert targets.boxes.dtype == torch.float32
