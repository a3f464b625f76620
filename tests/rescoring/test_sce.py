"""The network of SCE: what it reads, which boxes it looks at, and what it makes of them."""

import math

import pytest
import torch

from postnms.rescoring.sce import describe
from postnms.structures import Candidates, take
from tests.support.rescoring import found, sizes, tiny_rescorer


def test_what_a_stage_reads_of_a_box():
    edges = torch.tensor([[0.0, 0.5, 0.25, 1.0], [-7.0, 0, 0, 0]])
    read = describe(torch.tensor([0.3, 0.2]), edges, torch.tensor([0, 7]))
    assert read.shape == (2, 96)
    assert read[0, :32].tolist() == pytest.approx([0.3] * 32)
    wanted = [math.log(value) for value in (0.5, 1.0, 0.75, 1.5) for _ in range(8)]
    assert read[0, 32:64].tolist() == pytest.approx(wanted, abs=1e-6)
    assert read[0, 64:].tolist() == [0.0] * 16 + [1.0] * 16
    angles = [7 / 10000 ** (2 * number / 32) for number in range(16)]
    wanted = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    assert read[1, 64:].tolist() == pytest.approx(wanted, abs=1e-5)
    assert read[1, 32:40].tolist() == pytest.approx([math.log(0.01)] * 8)


def stage_factors(rescorer, candidates, scores, number):
    """Return the factor of a stage for each candidate of one class and image, in a plain order."""
    network = rescorer.network
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= 0.01]
    sequences = network.sequences(candidates, scores)
    assert sequences.rows.tolist() == order.tolist()
    logits = network.logits(number, candidates, scores, sizes(1), sequences)
    return dict(zip(order.tolist(), logits.sigmoid().tolist(), strict=True))


def test_the_final_score_is_the_product_and_low_products_are_dropped():
    rescorer = tiny_rescorer("sce")
    candidates = found([12], labels=torch.zeros(12, dtype=torch.int64))
    candidates.scores[:] = torch.tensor([0.9, 0.5, 0.02, 0.019, 0.015, 0.012] * 2)
    with torch.no_grad():
        first = stage_factors(rescorer, candidates, candidates.scores, 0)
        product = torch.tensor([float(candidates.scores[row]) * first[row] for row in range(12)])
        second = stage_factors(rescorer, candidates, product, 1)
    assert 0 < len(second) < len(first) == 12
    wanted = sorted((float(product[row]) * second[row] for row in second), reverse=True)
    detections = rescorer(candidates, sizes(1))
    assert detections.scores.tolist() == pytest.approx(wanted, rel=1e-5)
    for box, source in zip(detections.boxes, detections.source, strict=True):
        assert torch.equal(box, candidates.boxes[source])


def by_source(detections, image):
    """Return (score, label) of the detections of an image by their source."""
    rows = detections.image == image
    columns = (detections.source[rows], detections.scores[rows], detections.labels[rows])
    return {s: (v, k) for s, v, k in zip(*(column.tolist() for column in columns), strict=True)}


@pytest.mark.parametrize("kind", ["sce", "contextual", "relation"])
def test_neither_order_nor_other_images_change_a_score(kind):
    rescorer = tiny_rescorer(kind)
    candidates = found([7, 0, 1, 30])
    together = rescorer(candidates, sizes(4))
    order = torch.randperm(38, generator=torch.Generator().manual_seed(1))
    shuffled = rescorer(take(candidates, order), sizes(4))
    for image in range(4):
        rows = take(candidates, candidates.image == image)
        own = Candidates(
            **{n: getattr(rows, n) for n in ("boxes", "scores", "labels", "source", "extra")},
            image=torch.zeros_like(rows.image),
            num_images=1,
        )
        alone = by_source(rescorer(own, sizes(1)), 0)
        for other in (together, shuffled):
            mine = by_source(other, image)
            assert mine.keys() == alone.keys()
            for source, (score, label) in mine.items():
                assert score == pytest.approx(alone[source][0], abs=1e-6)
                assert label == alone[source][1]


@pytest.mark.parametrize("kind", ["sce", "contextual", "relation"])
@pytest.mark.parametrize("counts", [[], [0], [0, 0, 0], [1], [0, 1]])
def test_few_candidates_or_none(kind, counts):
    detections = tiny_rescorer(kind)(found(counts), sizes(len(counts)))
    assert detections.num_images == len(counts)
    assert detections.image.tolist() == [i for i, count in enumerate(counts) if count]
    assert ((detections.scores > 0) & (detections.scores < 1)).all()


@pytest.mark.parametrize(("kind", "changes"), [("sce", {"max_length": 50}), ("contextual", {})])
def test_ten_thousand_candidates_in_an_image(kind, changes):
    candidates = found([10_000, 3])
    detections = tiny_rescorer(kind, **changes)(candidates, sizes(2))
    assert (detections.image == 0).sum() == 100
    assert (detections.scores[:99] >= detections.scores[1:100]).all()
    if kind == "sce":
        best = candidates.scores[candidates.labels == 0].sort(descending=True)[0][50]
        of_class = detections.source[(detections.labels == 0) & (detections.image == 0)]
        assert (candidates.scores[of_class] > best).all()


@pytest.mark.parametrize("kind", ["sce", "contextual", "relation"])
def test_equal_scores_keep_their_order(kind):
    """Far boxes without any difference that a network sees, but for their rank."""
    candidates = found([6], scores=torch.full((6,), 0.5), labels=torch.zeros(6, dtype=torch.int64))
    rescorer = tiny_rescorer(kind, **({"suppressor": "none"} if kind == "contextual" else {}))
    first = rescorer(candidates, sizes(1))
    for parameter in rescorer.network.parameters():
        parameter.data.zero_()  # Then all new scores are equal.
    assert rescorer(candidates, sizes(1)).source.tolist() == list(range(6))
    assert len(set(first.scores.tolist())) == 6


def test_the_limit_of_detections():
    rescorer = tiny_rescorer("sce", max_detections=5)
    assert rescorer(found([20, 3]), sizes(2)).image.tolist() == [0] * 5 + [1] * 3
