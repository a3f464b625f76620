"""The target of contextual rescoring: objects are given away at falling thresholds."""

import pytest
import torch

from postnms.rescoring.quality import quality_of
from postnms.structures import as_detections
from tests.support.builders import make, truths
from tests.support.oracles_of_rescoring import qualities


def detected(*columns, **options):
    return as_detections(make(*columns, **options))


OBJECT = (0, 0, 100, 100)


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ([92, 97], [0, 0.97]),  # 0.95 is reached by the second one alone, which scores less.
        ([96, 99], [0.96, 0]),  # Both reach 0.95, so the score decides.
        ([91, 94], [0.91, 0]),  # Both lie in the interval from 0.9.
        ([89, 90], [0, 0.9]),  # Exactly 0.9 is enough.
        ([50, 49], [0.5, 0]),
        ([49], [0]),
    ],
)
def test_the_threshold_comes_before_the_score(widths, expected):
    found = detected([(0, 0, width, 100) for width in widths], [0.9, 0.8][: len(widths)])
    quality, counted = quality_of(found, truths([OBJECT]))
    assert quality.tolist() == pytest.approx(expected)
    assert counted.all()


def test_each_object_is_given_away_once_and_to_its_class():
    objects = truths([OBJECT, (0, 0, 100, 80), OBJECT], [0, 0, 1])
    found = detected([OBJECT, OBJECT, OBJECT, OBJECT], [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1])
    assert quality_of(found, objects)[0].tolist() == pytest.approx([1, 0.8, 0, 1])


def test_a_crowd_region_is_no_object_and_its_boxes_are_left_out():
    objects = truths([OBJECT, (0, 0, 50, 100)], crowd=[True, False])
    found = detected([(0, 0, 50, 100), (50, 0, 100, 100), (90, 0, 140, 100)], [0.9, 0.8, 0.7])
    quality, counted = quality_of(found, objects)
    assert quality.tolist() == [1, 0, 0]
    assert counted.tolist() == [True, False, True]  # A fifth of the last one is in the crowd.


@pytest.mark.parametrize("seed", range(40))
def test_one_walk_is_ten_walks(seed):
    generator = torch.Generator().manual_seed(seed)

    def boxes(count):
        corners = torch.randint(0, 3, (count, 2), generator=generator)
        sides = torch.randint(3, 12, (count, 2), generator=generator)
        return torch.cat([corners, corners + sides], 1).tolist()

    count, objects = 12, 5
    scores = (torch.randint(0, 4, (count,), generator=generator) / 4).sort(descending=True)[0]
    labels = torch.randint(0, 2, (count + objects,), generator=generator).tolist()
    crowd = (torch.rand(objects, generator=generator) < 0.2).tolist()
    mine, true = boxes(count), boxes(objects)
    found = detected(mine, scores.tolist(), labels[:count])
    quality, _ = quality_of(found, truths(true, labels[count:], crowd=crowd))
    wanted = qualities(mine, scores.tolist(), labels[:count], true, labels[count:], crowd)
    assert quality.tolist() == pytest.approx(wanted)


def test_images_are_apart_and_may_be_empty():
    found = detected([OBJECT, OBJECT], [0.9, 0.8], image=[0, 2], num_images=4)
    quality, counted = quality_of(found, truths([OBJECT], image=[2], num_images=4))
    assert quality.tolist() == [0, 1]
    assert counted.tolist() == [True, True]
    nothing = quality_of(detected([], [], num_images=0), truths([], num_images=0))
    assert [len(column) for column in nothing] == [0, 0]
