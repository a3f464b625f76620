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
    """Assert that a suppressor keeps the same in onnxruntime as in torch."""
    alone = Alone(text)
    run = in_onnxruntime(alone)
    random = np.random.default_rng(1)
    for _ in range(cases):
        inputs = random_candidates(random, int(random.choice([0, 1, 2, 10, 60, 300])))
        boxes, scores, labels, image, source = run(inputs)
        expected = alone(*inputs)
        np.testing.assert_array_equal(source, expected[4])
        np.testing.assert_array_equal(boxes, expected[0])
        np.testing.assert_array_equal(labels, expected[2])
        np.testing.assert_array_equal(image, expected[3])
        np.testing.assert_allclose(scores, expected[1], rtol=0, atol=1e-6)
