"""The network of Relation Networks' duplicate removal, beside a plain account of it."""

import math

import pytest
import torch

from postnms.rescoring.config import RelationConfig
from postnms.rescoring.relation import RelationNetwork, places
from postnms.rescoring.relation_training import boxes_to_keep
from postnms.rescoring.waves import waves
from postnms.structures import Candidates, Targets, take
from tests.support.rescoring import found, sizes, tiny_rescorer


def as_waves(value, count, longest=1000.0):
    angles = [value / longest ** (2 * k / count) for k in range(count // 2)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def test_waves_are_sines_and_cosines_of_rising_wavelengths():
    read = waves(torch.tensor([[0.0], [7.0]]), 32, 10000.0)
    assert read.shape == (2, 1, 32)
    assert read[0, 0].tolist() == [0.0] * 16 + [1.0] * 16
    assert read[1, 0].tolist() == pytest.approx(as_waves(7, 32, 10000.0), abs=1e-6)


def place_of(mine, other):
    """What a box (x1, y1, x2, y2) reads of the place of another one, number by number."""
    (x, y, w, h), (x_other, y_other, w_other, h_other) = (
        ((a + c) / 2, (b + d) / 2, max(c - a, 1), max(d - b, 1)) for a, b, c, d in (mine, other)
    )
    differences = [
        math.log(max(abs(x - x_other) / w, 1e-3)),
        math.log(max(abs(y - y_other) / h, 1e-3)),
        math.log(w_other / w),
        math.log(h_other / h),
    ]
    return [number for value in differences for number in as_waves(100 * value, 16)]


def test_places_by_hand():
    boxes = [(0.0, 0.0, 10.0, 20.0), (5.0, 0.0, 25.0, 20.0), (3.0, 3.0, 3.0, 3.0)]
    read = places(torch.tensor([boxes]))
    assert read.shape == (1, 3, 3, 64)
    for i, mine in enumerate(boxes):
        for j, other in enumerate(boxes):
            # The logarithms are multiplied by 100, so float32 leaves four digits.
            assert read[0, i, j].tolist() == pytest.approx(place_of(mine, other), abs=2e-4)


def logits_by_hand(network, vectors, boxes):
    """The logits of the boxes of one sequence, in loops. The narrow layer comes last here."""
    module = network.relation
    heads = module._heads
    width = vectors.shape[1]
    said = torch.zeros_like(vectors)
    for head in range(heads):
        keys = module.key.out_features // heads
        of_keys = slice(head * keys, (head + 1) * keys)
        narrow = slice(head * width // heads, (head + 1) * width // heads)
        for i, mine in enumerate(boxes.tolist()):
            weights = []
            for j, other in enumerate(boxes.tolist()):
                query, key = module.query(vectors[i])[of_keys], module.key(vectors[j])[of_keys]
                place = module.place(torch.tensor(place_of(mine, other)))[head]
                likeness = float(query @ key) / math.sqrt(len(query))
                weights.append(max(float(place), 1e-6) * math.exp(likeness))
            mean = sum(weight * vector for weight, vector in zip(weights, vectors, strict=True))
            mean = mean / sum(weights)
            said[i, narrow] = module.value.weight[narrow] @ mean + module.value.bias[narrow]
    return network.keep((vectors + said).relu())


@torch.no_grad()
def test_the_scores_are_those_of_a_plain_account():
    network = tiny_rescorer("relation", min_score=0.0).network
    candidates = found([6, 3], seed=3)
    detections = network(candidates, sizes(2))
    seen = {}
    for image in range(2):
        for label in range(2):
            rows = ((candidates.image == image) & (candidates.labels == label)).nonzero()[:, 0]
            rows = rows[candidates.scores[rows].argsort(descending=True)]
            features = candidates.extra["box_features"][rows]
            ranks = torch.tensor([as_waves(rank, 1024) for rank in range(len(rows))])
            vectors = network.features(features) + network.rank(ranks.view(-1, 1024))
            logits = logits_by_hand(network, vectors, candidates.boxes[rows])
            products = candidates.scores[rows] * logits.sigmoid().mean(dim=1)
            seen |= dict(zip(rows.tolist(), products.tolist(), strict=True))
    assert len(seen) == 9
    scores = dict(zip(detections.source.tolist(), detections.scores.tolist(), strict=True))
    assert scores == pytest.approx(seen, rel=1e-3)


def test_a_class_whose_best_box_scores_too_little_is_left_out():
    scores = torch.tensor([0.9, 0.01, 0.04, 0.03, 0.05])
    labels = torch.tensor([0, 0, 1, 1, 1])
    candidates = found([5], scores=scores, labels=labels)
    network = tiny_rescorer("relation").network
    assert sorted(network.sequences(candidates).rows.tolist()) == [0, 1, 2, 3, 4]
    candidates = found([5], scores=scores - 0.005, labels=labels)
    assert network.sequences(candidates).rows.tolist() == [0, 1]


def test_only_the_best_boxes_of_a_class_are_looked_at():
    network = tiny_rescorer("relation", max_length=2).network
    candidates = found([4], scores=torch.tensor([0.2, 0.5, 0.4, 0.3]), labels=torch.zeros(4).long())
    assert network.sequences(candidates).rows.tolist() == [1, 2]
    few = tiny_rescorer("relation", max_detections=3)
    assert len(few(candidates, sizes(1)).scores) == 3


@pytest.mark.parametrize("counts", [[], [0], [0, 1], [1]])
def test_few_boxes_or_none(counts):
    candidates = found(counts)
    detections = tiny_rescorer("relation")(candidates, sizes(len(counts)))
    assert len(detections.scores) == sum(counts)


def test_long_sequences_are_looked_at_in_parts(monkeypatch):
    rescorer, candidates = tiny_rescorer("relation"), found([40, 3, 25])
    whole = rescorer(candidates, sizes(3))
    monkeypatch.setattr("postnms.rescoring.relation.MOST_PAIRS", 1)
    parts = rescorer(candidates, sizes(3))
    assert torch.equal(whole.source, parts.source)
    assert torch.allclose(whole.scores, parts.scores, atol=1e-7)


def test_at_first_a_box_is_rarely_kept():
    torch.manual_seed(0)
    network = RelationNetwork(RelationConfig(), 4)
    candidates = found([20], features=4)
    sequences = network.sequences(candidates)
    factors = network.logits(take(candidates, sequences.rows), sequences).sigmoid()
    assert factors.shape == (20, 5)
    assert factors.detach() == pytest.approx(1 / (1 + math.exp(3)), abs=0.02)


def looked_at(boxes, labels=None):
    """Candidates of one image, the best score first."""
    count = len(boxes)
    labels = torch.zeros(count, dtype=torch.int64) if labels is None else torch.tensor(labels)
    zeros = torch.zeros(count, dtype=torch.int64)
    scores = torch.linspace(0.9, 0.1, count)
    return Candidates(torch.tensor(boxes), scores, labels, zeros, torch.arange(count), 1)


def objects(boxes, labels=None, crowd=None):
    count = len(boxes)
    labels = torch.zeros(count, dtype=torch.int64) if labels is None else torch.tensor(labels)
    crowd = torch.zeros(count, dtype=torch.bool) if crowd is None else torch.tensor(crowd)
    zeros = torch.zeros(count, dtype=torch.int64)
    return Targets(torch.tensor(boxes).view(-1, 4), labels, zeros, crowd, num_images=1)


def test_the_best_scored_box_over_each_threshold_is_to_be_kept():
    """The IoUs with the object are 0.6, 0.9, 1 and 0.5."""
    widths = (6.0, 9.0, 10.0, 5.0)
    boxes = looked_at([[0.0, 0.0, width, 10.0] for width in widths])
    wanted, counted = boxes_to_keep(boxes, objects([[0.0, 0, 10, 10]]), (0.5, 0.6, 0.7, 0.9))
    assert wanted.tolist() == [
        [True, False, False, False],
        [False, True, True, False],
        [False, False, False, True],
        [False, False, False, False],
    ]
    assert counted.all()


def test_a_box_belongs_to_one_object_of_its_class():
    """Box 0 lies better on object 1, so object 0 has box 1. Box 2 is of another class."""
    boxes = looked_at([[2.0, 0, 12, 10], [0.0, 0, 10, 10], [0.0, 0, 10, 10]], labels=[0, 0, 1])
    truth = objects([[0.0, 0, 10, 10], [3.0, 0, 13, 10]])
    wanted, _ = boxes_to_keep(boxes, truth, (0.5,))
    assert wanted.tolist() == [[True], [True], [False]]


def test_boxes_on_crowd_regions_are_not_trained_on():
    boxes = looked_at([[0.0, 0, 10, 10], [20.0, 0, 30, 10], [50.0, 0, 60, 10]])
    truth = objects([[0.0, 0, 10, 10], [15.0, 0, 35, 10]], crowd=[False, True])
    wanted, counted = boxes_to_keep(boxes, truth, (0.5, 0.9))
    assert wanted.tolist() == [[True, True], [False, False], [False, False]]
    assert counted.tolist() == [True, False, True]
    wanted, counted = boxes_to_keep(boxes, objects([]), (0.5,))
    assert not wanted.any()
    assert counted.all()
