"""A suppressor alone as an ONNX model, and random candidates for it."""

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.export import Dim

from postnms.export.program import to_onnx, trace_any
from postnms.structures import Candidates
from postnms.suppression.registry import choose

INPUTS = ("boxes", "scores", "labels", "image", "images")
OUTPUTS = ("kept_boxes", "kept_scores", "kept_labels", "kept_image", "kept_source")


class Alone(nn.Module):
    """A suppressor as a module: candidates in, the columns of the detections out."""

    def __init__(self, text):
        super().__init__()
        self.suppressor = choose(text).suppressor

    def forward(self, boxes, scores, labels, image, images):
        rows = torch.arange(len(scores))
        kept = self.suppressor(Candidates(boxes, scores, labels, image, rows, images.shape[0]))
        return kept.boxes, kept.scores, kept.labels, kept.image, kept.source


def in_onnxruntime(alone):
    """A function of the inputs of a module above that runs it in onnxruntime."""
    count, images = Dim("candidates"), Dim("images")
    lengths = ({0: count}, {0: count}, {0: count}, {0: count}, {0: images})
    example = tuple(random_candidates(np.random.default_rng(0), 50))
    axes = [{0: "candidates"}] * 4 + [{0: "images"}]
    model = to_onnx(trace_any(alone, example, lengths), INPUTS, OUTPUTS, axes)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return lambda inputs: session.run(
        list(OUTPUTS), {name: x.numpy() for name, x in zip(INPUTS, inputs, strict=True)}
    )


def random_candidates(random, count):
    """Inputs of a module above; every second time on a grid with few scores: ties abound."""
    grid = bool(random.integers(2))
    corners = random.uniform(0, 60, (count, 2))
    sides = random.uniform(0, 40, (count, 2))
    scores = random.uniform(0, 1, count)
    if grid:
        corners, sides, scores = corners // 10, sides // 10, (5 * scores).round() / 5
    boxes = np.concatenate([corners, corners + sides], axis=1)
    images = int(random.integers(1, 4))
    return (
        torch.from_numpy(boxes.astype(np.float32)),
        torch.from_numpy(scores.astype(np.float32)),
        torch.from_numpy(random.integers(0, 3, count)),
        torch.from_numpy(random.integers(0, images, count)),
        torch.zeros(images),
    )


def check_suppressor(text, cases):
    """Assert that a suppressor keeps the same in onnxruntime as in torch.

    Two detections of an image may change places only where their scores differ, and by rounding
    alone: onnxruntime and torch round an exponential differently. Equal scores keep their order.
    """
    alone = Alone(text)
    run = in_onnxruntime(alone)
    random = np.random.default_rng(1)
    for _ in range(cases):
        inputs = random_candidates(random, int(random.choice([0, 1, 2, 10, 60, 300])))
        found = dict(zip(OUTPUTS, run(inputs), strict=True))
        expected = dict(zip(OUTPUTS, (column.numpy() for column in alone(*inputs)), strict=True))
        np.testing.assert_allclose(found["kept_scores"], expected["kept_scores"], rtol=0, atol=1e-6)
        order = _rows_in_the_order_of(found, expected)
        for name in OUTPUTS:
            atol = 1e-6 if name == "kept_scores" else 0.0
            np.testing.assert_allclose(found[name][order], expected[name], rtol=0, atol=atol)


def _rows_in_the_order_of(found, expected):
    """The rows of found detections in the order of the expected ones, where scores differ.

    Rows of equal scores stay where they are.
    """
    mine, its = found["kept_source"], expected["kept_source"]
    order = np.arange(len(mine))
    moved = np.flatnonzero(mine != its)
    if len(moved) and set(mine[moved]) == set(its[moved]):
        scores = expected["kept_scores"][moved]
        assert len(np.unique(scores)) == len(scores), "rows of equal scores have changed places"
        place = {source: row for row, source in zip(moved, mine[moved], strict=True)}
        order[moved] = [place[source] for source in its[moved]]
    return order
