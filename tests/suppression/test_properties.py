"""Properties that hold for every suppressor."""

import dataclasses

import pytest
import torch

from postnms import UserError
from postnms.structures import EXTRA_COLUMNS, Candidates, of_image, rescale
from postnms.suppression import SUPPRESSORS, get_suppressor
from postnms.suppression import protocol as suppressor
from postnms.suppression.greedy import GreedyNMS
from postnms.suppression.soft import SoftNMS, VarianceVoting
from postnms.suppression.weighted_fusion import WBF
from tests.support.builders import NEVER_RISE, candidates_of, random_candidates
from tests.support.suppression import BACKENDS, suppress_by


@pytest.mark.parametrize("name", SUPPRESSORS)
def test_both_backends_agree_on_crowds_in_several_batches(name, monkeypatch):
    monkeypatch.setattr(suppressor, "MAX_PAIRS", 20_000)
    candidates = random_candidates(700)
    rule = get_suppressor(f"{name}:max_detections=1000")
    ours, theirs = rule(candidates, backend="cpu"), rule(candidates, backend="eager")
    torch.testing.assert_close(ours.source, theirs.source)
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("backend", ["cpu", "eager"])
@pytest.mark.parametrize("name", SUPPRESSORS)
def test_batches_are_made_of_their_images(name, backend):
    candidates = random_candidates(120, images=4)
    rule = SUPPRESSORS[name]
    whole = rule(candidates, backend=backend)
    for image in range(4):
        alone = of_image(candidates, image)
        found = rule(alone, backend=backend)
        torch.testing.assert_close(found.source, whole.source[whole.image == image])
        torch.testing.assert_close(found.scores, whole.scores[whole.image == image])


def with_every_column(candidates):
    """Return the candidates with every known extra column and two unknown ones."""
    random = torch.Generator().manual_seed(1)
    count = len(candidates.scores)
    extra = {
        name: torch.rand((count,) if column.width == 1 else (count, column.width), generator=random)
        for name, column in EXTRA_COLUMNS.items()
    }
    extra |= {"row": torch.arange(float(count)), "pair": torch.arange(2.0 * count).view(-1, 2)}
    return dataclasses.replace(candidates, extra=extra)


@pytest.mark.parametrize("backend", ["cpu", "eager"])
@pytest.mark.parametrize("name", SUPPRESSORS)
def test_what_is_kept_carries_the_extra_columns_of_its_candidates(name, backend):
    candidates = with_every_column(random_candidates(150))
    found = SUPPRESSORS[name](candidates, backend=backend)
    assert len(found.scores) > 20
    assert found.extra.keys() == candidates.extra.keys()
    # The source of random candidates is their row.
    assert torch.equal(found.extra["row"].long(), found.source)
    for column, values in candidates.extra.items():
        assert torch.equal(found.extra[column], values[found.source]), column


@pytest.mark.parametrize("backend", ["cpu", "eager"])
def test_variance_voting_does_not_depend_on_the_scale_of_the_images(backend):
    """Factors of x and y that differ leave every IoU and every ratio of variances as they are."""
    candidates = random_candidates(200)
    factors = torch.tensor([[2.0, 0.5], [0.25, 8.0]])
    rule = VarianceVoting(vote_sigma=0.1, max_detections=1000)
    before = rule(candidates, backend=backend)
    after = rule(rescale(candidates, factors), backend=backend)
    assert (before.boxes != candidates.boxes[before.source]).any(dim=1).sum() > 20  # votes move
    torch.testing.assert_close(after.source, before.source)
    torch.testing.assert_close(after.scores, before.scores)
    four = factors.repeat(1, 2)[before.image]
    torch.testing.assert_close(after.boxes, before.boxes * four, rtol=1e-4, atol=1e-3)
    wanted = before.extra["edge_log_variance"] + 2 * four.log()
    torch.testing.assert_close(after.extra["edge_log_variance"], wanted)


@pytest.fixture
def double_by_default():
    own = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(own)


SEVERAL_MODELS = [
    f"wbf:model_weights=[1,2]:confidence={name}"
    for name in ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")
]


@pytest.mark.parametrize("backend", ["cpu", "eager"])
@pytest.mark.parametrize("name", [*SUPPRESSORS, *SEVERAL_MODELS])
def test_the_default_dtype_changes_nothing(name, backend, request):
    candidates = random_candidates(150)
    models = {"model": (candidates.source % 2).float()}
    candidates = dataclasses.replace(candidates, extra=candidates.extra | models)
    rule = get_suppressor(name)
    wanted = rule(candidates, backend=backend)
    request.getfixturevalue("double_by_default")
    found = rule(candidates, backend=backend)
    for field in ("boxes", "scores", "labels", "image", "source"):
        ours, theirs = getattr(found, field), getattr(wanted, field)
        assert ours.dtype == theirs.dtype, field
        assert torch.equal(ours, theirs), field


@pytest.mark.parametrize("name", NEVER_RISE)
def test_scores_never_rise(name):
    candidates = random_candidates(300)
    found = get_suppressor(f"{name}:max_detections=1000")(candidates)
    own = candidates.scores[found.source]
    assert bool((found.scores <= own * (1 + 1e-6)).all())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SUPPRESSORS)
@pytest.mark.parametrize("images", [0, 3])
def test_nothing_in_nothing_out(name, backend, images):
    empty = torch.zeros(0)
    extra = {"density": empty, "iou": empty, "edge_log_variance": torch.zeros(0, 4)}
    none = Candidates(
        torch.zeros(0, 4), empty, empty.long(), empty.long(), empty.long(), images, extra
    )
    found = suppress_by(backend, SUPPRESSORS[name], none)
    assert found.boxes.shape == (0, 4)
    assert found.num_images == images


@pytest.mark.parametrize("backend", ["cpu", "eager"])
@pytest.mark.parametrize("name", SUPPRESSORS)
def test_copies_and_boxes_without_an_area(name, backend):
    """There are many copies with equal scores, then some points.

    The result is finite, and has the box of the copies where boxes are kept.
    """
    boxes = [[3.0, 4, 13, 24]] * 1500 + [[5.0, 5, 5, 5]] * 20
    count = len(boxes)
    extra = {
        "density": [0.3] * count,
        "iou": [0.5] * count,
        "edge_log_variance": [[0.0] * 4] * count,
    }
    found = SUPPRESSORS[name](candidates_of(boxes, [0.5] * count, **extra), backend=backend)
    assert len(found.scores) >= 2
    assert found.source[0] == 0
    torch.testing.assert_close(found.boxes[0], torch.tensor([3.0, 4, 13, 24]))


def test_huge_coordinates_keep_images_and_classes_apart():
    """If classes were told apart by moving boxes, 1e7 px would leave no digits for the boxes."""
    candidates = random_candidates(200, images=3, classes=5)
    moved = dataclasses.replace(candidates, boxes=candidates.boxes * 2.0**17)
    for rule in SUPPRESSORS.values():
        torch.testing.assert_close(rule(candidates).source, rule(moved).source)


def test_errors_name_what_is_wrong():
    plain = random_candidates(5, extra=False)
    with pytest.raises(
        UserError, match="AdaptiveNMS: needs the extra column 'density', the candidates have: none"
    ):
        SUPPRESSORS["adaptive_nms"](plain)
    with pytest.raises(UserError, match="WBF: needs the extra column 'model' for 2 model_weights"):
        WBF(model_weights=(1.0, 2.0))(plain)
    with pytest.raises(
        ValueError, match=r"extra\['model'\]: expected values from 0 to 1, got 0 to 7"
    ):
        WBF(model_weights=(1.0, 2.0))(candidates_of([[0, 0, 1, 1]] * 2, [0.5, 0.5], model=[0, 7]))
    with pytest.raises(
        ValueError, match=r"extra\['edge_log_variance'\]: expected shape \(1, 4\).*got \(1,\)"
    ):
        SUPPRESSORS["variance_voting"](
            candidates_of([[0, 0, 1, 1]], [0.5], edge_log_variance=[1.0])
        )
    with pytest.raises(
        ValueError,
        match=r"Candidates.scores: expected values in \[0, 1\] for SoftNMS, got -1 to 0.5",
    ):
        SoftNMS()(candidates_of([[0, 0, 1, 1]] * 2, [0.5, -1]))
    with pytest.raises(
        ValueError, match="backend: expected 'cpu', 'eager', 'triton' or None, got 'gpu'"
    ):
        SoftNMS()(plain, backend="gpu")


def test_scores_beyond_probabilities_are_fine_where_only_their_order_counts():
    found = GreedyNMS()(candidates_of([[0, 0, 1, 1], [5, 5, 6, 6]], [-3, 7]))
    assert found.scores.tolist() == [7, -3]
