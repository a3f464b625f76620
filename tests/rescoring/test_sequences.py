"""Candidates become sequences by image and class, and a walk goes through all of them."""

import pytest
import torch

from postnms.rescoring.sequences import sequences_of


def columns(*rows):
    scores, labels, image = zip(*rows, strict=True)
    return torch.tensor(scores), torch.tensor(labels), torch.tensor(image)


def in_pieces(sequences):
    """Return (label, rows) of each sequence."""
    return [
        (int(label), sequences.rows[start : start + length].tolist())
        for label, start, length in zip(
            sequences.labels, sequences.starts, sequences.lengths, strict=True
        )
    ]


def test_sequences_fall_by_score_and_ties_keep_their_order():
    given = columns(
        (0.5, 1, 0), (0.7, 0, 1), (0.5, 1, 0), (0.9, 1, 0), (0.009, 1, 0), (0.01, 0, 0), (0.7, 0, 1)
    )
    sequences = sequences_of(*given, least=0.01, most=None)
    assert in_pieces(sequences) == [(0, [1, 6]), (0, [5]), (1, [3, 0, 2])]
    assert sequences.rank.tolist() == [0, 1, 0, 0, 1, 2]
    assert sequences.segments == [(0, 0, 3), (1, 3, 6)]


def test_a_limit_keeps_the_best_of_each_sequence():
    given = columns((0.1, 0, 0), (0.2, 0, 0), (0.3, 0, 0), (0.4, 0, 1))
    assert in_pieces(sequences_of(*given, least=0.01, most=2)) == [(0, [2, 1]), (0, [3])]


def test_no_candidate_is_no_sequence():
    sequences = sequences_of(torch.zeros(3), *torch.zeros(2, 3, dtype=torch.int64), 0.01, None)
    assert len(sequences) == 0
    assert in_pieces(sequences) == []
    assert list(sequences.padded(9)) == []
    assert sequences.walk.steps == ()


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    labels, image = torch.randint(0, 4, (2, 60), generator=generator)
    return sequences_of(torch.rand(60, generator=generator), labels, image, 0.1, None)


def test_padded_batches_have_each_row_once(drawn):
    for most in (1, 50, 10**6):
        rows = []
        for places, real in drawn.padded(most):
            assert len(places) == 1 or places.shape[0] * places.shape[1] ** 2 <= most
            rows += places[real].tolist()
        assert sorted(rows) == list(range(len(drawn)))


def test_a_walk_meets_each_row_once_in_each_direction(drawn):
    walk = drawn.walk
    lengths = drawn.lengths.repeat(drawn.lengths)
    entries = torch.cat([entries for _, _, entries in walk.steps])
    assert entries[walk.places].tolist() == [[2 * row, 2 * row + 1] for row in range(len(drawn))]
    step = torch.cat([torch.full((len(e),), t) for t, (_, _, e) in enumerate(walk.steps)])
    assert step[walk.places[:, 0]].tolist() == drawn.rank.tolist()
    assert step[walk.places[:, 1]].tolist() == (lengths - 1 - drawn.rank.numpy()).tolist()
