"""What surrounds clustering is timed on work that is what it is called, beside its limit."""

import pytest
import torch

from postnms.data.formats.coco import read_coco
from postnms.evaluation.metrics import evaluate_rows
from postnms.ops import cluster_nms
from postnms.speed import made_data, surroundings
from postnms.speed.surroundings import (
    Limit,
    Piece,
    Sizes,
    evaluation_pieces,
    image_piece,
    random_clusters,
    stage_pieces,
    time_surroundings,
)
from postnms.speed.timing import Timing
from postnms.stage import PostNMSStage

SMALL = Sizes(channels=8, side=64, candidates=20, images=6, resamples=4, pictures=5)


@pytest.fixture
def timed(monkeypatch):
    """No call is made: the times are 12 ms of work and 4 ms of the limit. Who was timed is kept."""
    calls = []

    def measure(sides, rounds, warmup, budget):
        calls.append((list(sides), rounds, budget, torch.get_num_threads()))
        return {name: Timing(12.0 if name == "work" else 4.0, rounds) for name in sides}

    monkeypatch.setattr(surroundings, "measure", measure)
    return calls


def test_each_piece_takes_turns_with_its_own_limit(timed):
    found = {work.what: work for work in time_surroundings(SMALL, rounds=5, threads=2, budget=7)}
    with_limit, alone = ["work", "limit"], ["work"]
    assert [call[0] for call in timed] == [with_limit] * 2 + [alone] * 3 + [with_limit]
    assert {call[1:] for call in timed} == {(5, 7, 2)}
    images = found["images"]
    # Two processes share the 4 ms of Pillow.
    assert (images.limit, images.limit_milliseconds, images.ratio) == ("Pillow alone", 2.0, 6.0)
    assert (images.size, images.threads, images.timing) == ("5 JPEG files", 2, Timing(12.0, 5))
    assert found["evaluation"].limit is found["evaluation"].ratio is None


def test_the_limit_is_counted_in_products_of_known_size(monkeypatch):
    monkeypatch.setattr(surroundings, "PRODUCT", 4)
    one, other = torch.zeros(6, 10), torch.zeros(10, 8)
    limit = surroundings._of_products(lambda: one @ other)
    assert limit.share == 6 * 10 * 8 / 4**3
    assert limit.call().shape == (4, 4)


def test_the_stage_counts_at_least_the_products_of_its_networks():
    detect, train = stage_pieces(SMALL)
    # Each network has layers of 49 C x 1024 and 1024 x 1024. There are at least 2 keys.
    of_a_box = 2 * (49 * 8 * 1024 + 1024**2)
    assert detect.limit.share * surroundings.PRODUCT**3 > 2 * of_a_box
    # The way back has two products for each one of the way there, and more rows.
    assert train.limit.share > 3 * detect.limit.share


def test_gradients_are_not_added_up_over_calls(monkeypatch):
    seen = []
    losses = PostNMSStage.losses

    def watched(stage, *arguments):
        seen.append([parameter.grad for parameter in stage.parameters()])
        return losses(stage, *arguments)

    monkeypatch.setattr(PostNMSStage, "losses", watched)
    _, train = stage_pieces(SMALL)
    train.call()
    assert len(seen) == 2  # One call counts the products.
    assert all(gradient is None for gradients in seen for gradient in gradients)


def test_candidates_lie_around_their_objects():
    clusters, targets = random_clusters(50, 200, torch.Generator().manual_seed(0))
    assert (len(clusters.assignment), len(targets.boxes)) == (50, 5)
    keys, _ = cluster_nms(clusters.candidates.boxes, clusters.candidates.scores)
    assert clusters.keys.tolist() == keys.tolist()
    assert 5 <= len(keys) < 25


def test_an_evaluation_has_two_rows_of_which_the_second_is_better(tmp_path):
    truth, rows = made_data.random_rows(40)
    assert [len(results) for results in rows.values()] == [4000, 4000]
    evaluation = evaluate_rows(truth, rows, bootstrap=0)
    assert 5 < evaluation.rows["nms"]["AP"] < evaluation.rows["post_nms"]["AP"] < 95
    annotations, plain, resampled = (piece.call for piece in evaluation_pieces(SMALL, tmp_path))
    assert len(annotations().image) == SMALL.images * made_data.OBJECTS
    assert plain().gains["post_nms"].low is None
    assert resampled().gains["post_nms"].low is not None


def test_pictures_are_read_and_the_limit_decodes_the_same_files(tmp_path, monkeypatch):
    piece = image_piece(SMALL, tmp_path, threads=1)
    assert isinstance(piece, Piece)
    assert isinstance(piece.limit, Limit)
    shapes = []
    resize = surroundings.resize

    def watched(*arguments):
        image = resize(*arguments)
        shapes.append(image.size)
        return image

    monkeypatch.setattr(surroundings, "resize", watched)
    piece.limit.call()
    assert shapes == [(427, 320)] * 5
    read = []

    def watched_batches(data, rows, size):
        read.append((rows, size, data.workers))
        return []

    monkeypatch.setattr(surroundings, "batches", watched_batches)
    piece.call()
    image_piece(SMALL, tmp_path, threads=3).call()
    assert read == [(range(5), 8, 0), (range(5), 8, 3)]
    records = read_coco(tmp_path / "annotations.json", tmp_path).records
    assert [record.load().size for record in records] == [(640, 480)] * 5
