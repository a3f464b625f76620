"""Suppressors on plain arrays: the kind of the input comes back, and rows lead to rows."""

import numpy as np
import pytest
import torch
from ensemble_boxes import weighted_boxes_fusion
from torchvision.ops import batched_nms

from postnms import SUPPRESSORS, fuse, suppress
from postnms.ops import cluster_nms
from postnms.suppression import ALIASES
from tests.support.builders import random_candidates

BOXES = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10], [0, 1, 10, 11]])
SCORES = np.array([0.8, 0.9, 0.7, 0.6])
NEEDS_COLUMNS = {"adaptive_nms", "iou_guided_nms", "variance_voting"}


def boxes_of(count, seed=0):
    """Boxes, scores and labels of one image as numpy arrays of float64."""
    found = random_candidates(count, 1, seed=seed, extra=False)
    return (
        found.boxes.double().numpy(),
        found.scores.double().numpy(),
        found.labels.numpy(),
    )


def test_a_hand_worked_image():
    kept = suppress(BOXES, SCORES)
    assert kept.index.tolist() == [1, 2]
    assert kept.boxes.tolist() == BOXES[[1, 2]].tolist()
    assert kept.scores.tolist() == [0.9, 0.7]
    assert kept.cluster.tolist() == [0, 0, 1, 0]
    assert len(kept) == 2
    apart = suppress(BOXES, SCORES, np.array(["a", "b", "b", "a"]))
    assert apart.labels.tolist() == ["b", "a", "b"]
    assert apart.cluster.tolist() == [1, 0, 2, 1]
    assert suppress(BOXES, SCORES, ["a", "b", "b", "a"], class_agnostic=True).index.tolist() == [
        1,
        2,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_nms_is_that_of_torchvision_and_owners_are_those_of_cluster_nms(seed):
    boxes, scores, labels = boxes_of(300, seed)
    kept = suppress(boxes, scores, labels)
    tensors = [torch.from_numpy(array) for array in (boxes, scores, labels)]
    assert kept.index.tolist() == batched_nms(*tensors, 0.5).tolist()
    keys, assignment = cluster_nms(*tensors, iou_threshold=0.5)
    assert (kept.index.tolist(), kept.cluster.tolist()) == (keys.tolist(), assignment.tolist())
    # The general way, which any limit takes, gives the same owners.
    limited = suppress(boxes, scores, labels, max_detections=len(keys))
    assert limited.index.tolist() == keys.tolist()
    assert limited.cluster.tolist() == assignment.tolist()


KINDS = {
    "float64": lambda array: array,
    "float32": lambda array: array.astype(np.float32),
    "int32": lambda array: (100 * array).astype(np.int32),
    "uint16": lambda array: (100 * array).astype(np.uint16),
    "torch": torch.from_numpy,
    "torch half": lambda array: torch.from_numpy(array).half(),
    "torch bfloat16": lambda array: torch.from_numpy(array).bfloat16(),
    "torch int": lambda array: (100 * torch.from_numpy(array)).int(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["nms", "soft_nms_gaussian", "wbf"])
def test_the_kind_and_the_dtype_of_the_input_come_back(kind, method):
    boxes = KINDS[kind](BOXES)
    scores = SCORES if isinstance(boxes, np.ndarray) else torch.from_numpy(SCORES)
    labels = np.array([3, 3, 7, 3], np.int16)
    labels = labels if isinstance(boxes, np.ndarray) else torch.from_numpy(labels)
    kept = suppress(boxes, scores, labels, method=method)
    assert {type(array) for array in (kept.boxes, kept.scores, kept.labels, kept.index)} == {
        type(boxes)
    }
    assert type(kept.cluster) is type(boxes)
    is_float = "int" not in kind
    assert str(kept.boxes.dtype).endswith(str(boxes.dtype) if is_float else "float32")
    assert kept.labels.dtype == labels.dtype
    assert str(kept.index.dtype).endswith("int64")
    if method == "nms":
        assert kept.boxes.tolist() == boxes[kept.index].tolist()
        assert kept.scores.tolist() == [0.9, 0.7]


@pytest.mark.parametrize("method", ["nms", "soft_nms"])
@pytest.mark.parametrize("of_torch", ["boxes", "scores", "labels"])
def test_the_kind_of_the_boxes_decides_where_kinds_differ(method, of_torch):
    labels = np.array([3, 3, 7, 3])
    given = {"boxes": BOXES.astype(np.float32), "scores": SCORES, "labels": labels}
    wanted = suppress(**given, method=method)
    given[of_torch] = torch.from_numpy(given[of_torch])
    kept = suppress(**given, method=method)
    for name in ("boxes", "scores", "labels", "index", "cluster"):
        found, expected = getattr(kept, name), getattr(wanted, name)
        # Labels of numpy, which may be texts, come back as they came.
        stays = name == "labels" and of_torch != "labels"
        assert isinstance(found, torch.Tensor) == (of_torch == "boxes" and not stays)
        assert str(found.dtype).endswith(str(expected.dtype))
        assert found.tolist() == expected.tolist()


def test_settings_of_equal_value_and_another_type_are_checked_again():
    assert len(suppress(BOXES, SCORES, iou_threshold=1)) == 4
    assert len(suppress(BOXES, SCORES, iou_threshold=1.0)) == 4
    with pytest.raises(ValueError, match=r"nms.iou_threshold: input should be a valid number"):
        suppress(BOXES, SCORES, iou_threshold=True)
    assert len(suppress(BOXES, SCORES, max_detections=1)) == 1
    for wrong in (True, 1.5):
        with pytest.raises(ValueError, match=r"nms.max_detections: input should be a valid int"):
            suppress(BOXES, SCORES, max_detections=wrong)


def test_numbers_of_numpy_are_those_of_python():
    image = boxes_of(60)
    plain = suppress(*image, iou_threshold=0.25, max_detections=5)
    soft = suppress(*image, method="soft_nms_gaussian", sigma=0.25, max_detections=5)
    assert (len(plain), len(soft)) == (5, 5)
    for number, whole in ((np.float16, np.uint8), (np.float32, np.int64), (np.float64, np.int32)):
        found = suppress(*image, iou_threshold=number(0.25), max_detections=whole(5))
        assert found.index.tolist() == plain.index.tolist()
        found = suppress(
            *image, method="soft_nms_gaussian", sigma=number(0.25), max_detections=whole(5)
        )
        assert found.scores.tolist() == soft.scores.tolist()
    agnostic = suppress(*image, class_agnostic=True)
    found = suppress(*image, class_agnostic=np.bool_(True))
    assert len(suppress(*image)) > len(found)
    assert found.index.tolist() == agnostic.index.tolist()


@pytest.mark.parametrize("name", ["weights", "model_weights"])
def test_fusing_takes_weights_of_numpy(name):
    models = [boxes_of(20, 0), boxes_of(20, 1)]
    plain = fuse(models, iou_threshold=0.5, **{name: [1, 3]})
    for weights in (np.array([1, 3], np.float32), [np.float32(1), np.int64(3)]):
        found = fuse(models, iou_threshold=np.float32(0.5), **{name: weights})
        assert found.scores.tolist() == plain.scores.tolist()
        assert found.boxes.tolist() == plain.boxes.tolist()


def test_a_list_of_images_gives_a_list():
    boxes, scores, labels = boxes_of(60)
    images = [slice(0, 40), slice(40, 40), slice(40, 60)]
    parts = [[array[image] for image in images] for array in (boxes, scores, labels)]
    found = suppress(*parts, method="soft_nms")
    assert [len(image) > 0 for image in found] == [True, False, True]
    for number, image in enumerate(images):
        alone = suppress(*(array[image] for array in (boxes, scores, labels)), method="soft_nms")
        assert found[number].index.tolist() == alone.index.tolist()
        assert found[number].scores.tolist() == alone.scores.tolist()


@pytest.mark.parametrize("method", sorted(SUPPRESSORS.keys() - NEEDS_COLUMNS))
def test_every_method_is_the_suppressor_of_its_name(method):
    found = random_candidates(200, 1, extra=False)
    wanted = SUPPRESSORS[method].model_copy(update={"max_detections": 1000})(found)
    kept = suppress(found.boxes, found.scores, found.labels, method=method)
    assert torch.equal(kept.index, wanted.source)
    assert torch.equal(kept.boxes, wanted.boxes)
    assert torch.equal(kept.scores, wanted.scores)
    assert torch.equal(kept.labels, wanted.labels)
    owners = kept.cluster
    assert owners.min() >= -1
    assert torch.equal(owners[kept.index], torch.arange(len(kept)))


def test_aliases_lead_to_suppressors():
    assert set(ALIASES.values()) <= SUPPRESSORS.keys()
    assert not ALIASES.keys() & SUPPRESSORS.keys()
    by_alias = suppress(BOXES, SCORES, method="soft_nms")
    assert (
        by_alias.scores.tolist()
        == suppress(BOXES, SCORES, method="soft_nms_linear").scores.tolist()
    )


def test_there_is_no_limit_but_the_one_that_is_asked_for():
    boxes = np.array([[20.0 * i, 0, 20 * i + 10, 10] for i in range(150)])
    scores = np.linspace(1, 0.5, 150)
    assert len(suppress(boxes, scores)) == 150
    kept = suppress(boxes, scores, max_detections=4)
    assert kept.index.tolist() == [0, 1, 2, 3]
    assert kept.cluster.tolist() == [0, 1, 2, 3] + [-1] * 146


def test_wbf_is_that_of_ensemble_boxes():
    models = [boxes_of(80, seed) for seed in (0, 1)]
    scale = 1000.0
    mine = fuse(models, weights=[2, 1], iou_threshold=0.55)
    theirs = weighted_boxes_fusion(
        [model[0] / scale for model in models],
        [model[1] for model in models],
        [model[2] for model in models],
        weights=[2, 1],
        iou_thr=0.55,
    )
    assert len(mine) == len(theirs[1])
    assert np.allclose(mine.scores, theirs[1], atol=1e-6)
    order = np.lexsort(mine.boxes.T), np.lexsort(np.asarray(theirs[0]).T)
    assert np.allclose(mine.boxes[order[0]], scale * theirs[0][order[1]], atol=1e-3)


def test_other_methods_weigh_the_scores_of_models():
    box = np.array([[0.0, 0, 10, 10]])
    fused = fuse(
        [(box, np.array([0.8])), (box + 0.5, np.array([0.6]))], method="nms", weights=[1, 2]
    )
    assert (fused.index.tolist(), fused.scores.tolist()) == ([1], [0.6])
    tensors = [tuple(map(torch.from_numpy, model)) for model in [(box, np.array([0.8]))] * 2]
    assert fuse(tensors, method="nms").index.tolist() == [0]


@pytest.mark.parametrize("method", ["nms", "soft_nms", "wbf"])
def test_nothing_gives_nothing(method):
    for empty in (np.zeros((0, 4)), torch.zeros(0, 4), np.zeros(0)):
        kept = suppress(empty, empty[:, 0] if empty.ndim == 2 else empty, method=method)
        assert (len(kept), kept.boxes.shape, kept.cluster.shape) == (0, (0, 4), (0,))


def test_empty_labels_may_be_floats():
    for labels in ([], np.zeros(0), torch.zeros(0)):
        assert len(suppress(np.zeros((0, 4)), np.zeros(0), labels)) == 0


def test_a_model_that_finds_nothing_changes_nothing():
    labels = np.array([0, 1, 1, 0])
    alone = fuse([(BOXES, SCORES, labels)], method="nms")
    for nothing in ([], np.zeros(0)):
        fused = fuse([(nothing,) * 3, (BOXES, SCORES, labels), (nothing,) * 3], method="nms")
        assert fused.index.tolist() == alone.index.tolist()
        assert fused.labels.dtype == labels.dtype
    empty = (torch.zeros(0),) * 3
    tensors = (torch.from_numpy(BOXES), torch.from_numpy(SCORES), torch.from_numpy(labels))
    assert fuse([empty, tensors], method="nms").index.tolist() == alone.index.tolist()


@pytest.mark.parametrize("method", ["nms", "soft_nms"])
def test_arrays_that_torch_does_not_take_as_they_are(method):
    expected = suppress(BOXES, SCORES, method=method)
    swapped = suppress(BOXES.astype(">f8"), SCORES.astype(">f8"), method=method)
    locked = [BOXES.copy(), SCORES.copy()]
    for array in locked:
        array.flags.writeable = False
    for kept in (swapped, suppress(*locked, method=method)):
        assert kept.boxes.tolist() == expected.boxes.tolist()
        assert kept.scores.tolist() == expected.scores.tolist()


NAN = np.full(4, np.nan)
BAD = [
    ("boxes: expected shape (n, 4), got (4, 3)", {"boxes": BOXES[:, :3]}),
    ("boxes: expected finite numbers", {"boxes": np.where(BOXES > 45, np.nan, BOXES)}),
    ("boxes: expected finite numbers", {"boxes": BOXES * 1e38}),
    ("boxes: expected x1 <= x2 and y1 <= y2, got [40.0, 0.0, 5.0, 10.0] in row 2", {
        "boxes": np.where(BOXES == 50, 5, BOXES)
    }),
    ("boxes: expected real numbers, got complex128", {"boxes": BOXES + 1j}),
    ("boxes: expected real numbers, got <U1", {"boxes": np.array([["a"] * 4] * 4)}),
    ("scores: expected shape (4,) as boxes, got (3,)", {"scores": SCORES[:3]}),
    ("scores: expected finite numbers", {"scores": NAN}),
    ("labels: expected 4 integers or texts, got int64 of (3,)", {"labels": np.arange(3)}),
    ("labels: expected 4 integers or texts, got float64 of (4,)", {"labels": SCORES}),
    ("labels: expected 4 integers, got torch.float32", {"labels": torch.zeros(4)}),
    ("scores: expected rows of equal lengths", {"scores": [[1], [1, 2], [1], [1]]}),
    ("method: no ['nms'] (did you mean 'nms'?)", {"method": ["nms"]}),
    ("method: no 'soft_mns' (did you mean 'soft_nms'?)", {"method": "soft_mns"}),
    ("nms.iou_threshold: input should be less than or equal to 1, got 2", {"iou_threshold": 2}),
    ("nms.sigma: no such field", {"sigma": 0.5}),
    ("nms.max_detections: input should be greater than 0", {"max_detections": 0}),
    ("Candidates.scores: expected values in [0, 1] for WBF", {
        "scores": 2 * SCORES, "method": "wbf"
    }),
]  # fmt: skip


@pytest.mark.parametrize(("message", "change"), BAD)
def test_a_wrong_argument_is_named(message, change):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        suppress(**{"boxes": BOXES, "scores": SCORES, **change})
    assert str(error.value).startswith(message)


def test_wrong_lists_and_models_are_named():
    with pytest.raises(ValueError, match="scores: expected a list of 2 arrays as boxes is one"):
        suppress([BOXES, BOXES], SCORES)
    with pytest.raises(ValueError, match="models: expected at least one, got none"):
        fuse([])
    with pytest.raises(ValueError, match=r"weights: expected 1 numbers above 0, got \[1, 2\]"):
        fuse([(BOXES, SCORES)], weights=[1, 2])
    with pytest.raises(ValueError, match="models: expected boxes and scores of each, and labels"):
        fuse([(BOXES, SCORES), (BOXES, SCORES, SCORES)])
    with pytest.raises(
        ValueError, match="models: expected arrays of one kind, got numpy and torch"
    ):
        fuse([(BOXES, SCORES), (torch.from_numpy(BOXES), torch.from_numpy(SCORES))])
    for weights in (["a"], [None], 2):
        with pytest.raises(ValueError, match="weights: expected 1 numbers above 0, got"):
            fuse([(BOXES, SCORES)], weights=weights)
    # The numbers of all models together are equal here.
    with pytest.raises(ValueError, match=r"models\[0\]: .* of one length, got lengths 4, 3"):
        fuse([(BOXES, SCORES[:3]), (BOXES[:3], SCORES)])
    with pytest.raises(ValueError, match=r"models\[1\]: expected arrays of one length"):
        fuse([(BOXES, SCORES), (BOXES[:1], 0.5)])
    with pytest.raises(ValueError, match="models: expected arrays that can be joined"):
        fuse([(BOXES, SCORES), (BOXES[:, :3], SCORES)])
