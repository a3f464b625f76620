"""The bootstrap over images and seeds equals a plain loop with pycocotools."""

import numpy as np
import pytest

from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.matching import match_results
from postnms.experiments.intervals import Resampled, mean_precision, paired_difference, resample
from tests.support.coco import as_truth, pycocotools_metrics, scene
from tests.support.experiments import moved


def copied(truth, results, drawn):
    """Return a truth and results in which each drawn image is an image of its own."""
    ids = sorted(image["id"] for image in truth.images)
    content = {"categories": truth.content["categories"], "images": [], "annotations": []}
    own = []
    for new, position in enumerate(drawn, 1):
        old = ids[position]
        content["images"].append({"id": new, "height": 200, "width": 300})
        for entry in truth.annotations:
            if entry["image_id"] == old:
                number = len(content["annotations"]) + 1
                content["annotations"].append({**entry, "id": number, "image_id": new})
        own += [{**entry, "image_id": new} for entry in results if entry["image_id"] == old]
    return as_truth(content), own


def plain_interval(sides, truths, image_sets, resamples, seed):
    """Resample images and seeds in a plain loop; ``sides`` are the results of each seed, twice."""
    seeds = len(truths)
    count = len(truths[0].images)
    draws = {number: np.random.default_rng(seed + number) for number in set(image_sets)}
    of_seeds = np.random.default_rng([seed, 1])
    values = []
    for _ in range(resamples):
        images = {number: random.integers(0, count, count) for number, random in draws.items()}
        values.append(
            [
                pycocotools_metrics(*copied(truth, left, images[number]))["AP"]
                - pycocotools_metrics(*copied(truth, right, images[number]))["AP"]
                for truth, left, right, number in zip(truths, *sides, image_sets, strict=True)
            ]
        )
    chosen = [of_seeds.integers(0, seeds, seeds) for _ in range(resamples)]
    means = [
        sum(row[seed] for seed in row_of) / seeds
        for row, row_of in zip(values, chosen, strict=True)
    ]
    return np.percentile(means, [2.5, 97.5])


@pytest.mark.parametrize("image_sets", [(0, 0, 0), (0, 1, 1)])
def test_the_interval_is_that_of_a_plain_loop(image_sets):
    scenes = [scene(number, images=6) for number in (0, 1)]
    truths = [scenes[number][0] for number in image_sets]
    sides = [
        [
            moved(scenes[number][1], 10 * k + side, 2 + 3 * side)
            for k, number in enumerate(image_sets)
        ]
        for side in range(2)
    ]
    resampled = [
        resample(
            [match_results(*pair) for pair in zip(truths, side, strict=True)], image_sets, 12, 5
        )
        for side in sides
    ]
    found = paired_difference(*resampled, seed=5)
    expected = plain_interval(sides, truths, image_sets, 12, 5)
    assert [found.low, found.high] == pytest.approx(expected.tolist(), abs=1e-9)
    whole = [
        pycocotools_metrics(truth, left)["AP"] - pycocotools_metrics(truth, right)["AP"]
        for truth, left, right in zip(truths, *sides, strict=True)
    ]
    assert found.per_seed == pytest.approx(whole, abs=1e-9)
    assert found.mean == pytest.approx(np.mean(whole))
    assert found.low < found.mean < found.high


def test_with_one_seed_the_interval_is_that_over_the_images():
    truth, results = scene(2)
    before, after = (match_results(truth, moved(results, number)) for number in (0, 1))
    found = paired_difference(*(resample([side], [0], 40, 7) for side in (after, before)), seed=7)
    drawn = [resampled_precisions(side, 40, 7) for side in (before, after)]
    assert (found.low, found.high) == gain_interval(*drawn)


def test_seeds_are_drawn_for_both_sides_together():
    """What differs between the seeds, but not between the sides, does not widen the interval."""
    level = np.array([[10.0], [50.0], [90.0]])
    right = Resampled(level[:, 0], np.tile(level, 200))
    left = Resampled(level[:, 0] + 1, np.tile(level, 200) + 1)
    found = paired_difference(left, right)
    assert (found.low, found.mean, found.high) == pytest.approx((1, 1, 1))
    # What differs between the seeds does: the mean of three draws of 0, 3 and 6 is from 0 to 6.
    left = Resampled(level[:, 0] + [0, 3, 6], np.tile(np.add(level, [[0], [3], [6]]), 200))
    found = paired_difference(left, right)
    assert found.mean == pytest.approx(3)
    assert (found.low, found.high) == pytest.approx((0, 6), abs=1.01)
    assert found.low < 2
    assert found.high > 4


def test_resamples_without_an_object_are_left_out():
    drawn = np.array([[1.0, np.nan, 3.0]])
    side = Resampled(np.array([2.0]), drawn + 1), Resampled(np.array([1.0]), drawn)
    assert (paired_difference(*side).low, paired_difference(*side).high) == (1.0, 1.0)


def test_sides_of_other_seeds_are_no_pairs():
    sides = [Resampled(np.zeros(count), np.zeros((count, 4))) for count in (2, 3)]
    with pytest.raises(ValueError, match=r"right: expected \(2, 4\) .* got \(3, 4\)"):
        paired_difference(*sides)


def test_the_interval_of_ap_draws_seeds_as_that_of_a_difference():
    random = np.random.default_rng(4)
    side = Resampled(np.array([40.0, 43.0, 41.5]), random.normal(41.5, 2, (3, 50)))
    nothing = Resampled(np.zeros(3), np.zeros((3, 50)))
    assert mean_precision(side) == paired_difference(side, nothing)
    assert mean_precision(side).mean == pytest.approx(41.5)
