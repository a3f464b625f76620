"""What defines the rescorers, in plain loops over numbers."""

import math

from tests.support.oracles import Box, iou


def qualities(boxes, scores, labels, objects, object_labels, crowd):
    """Return the IoU that each detection has with the object it gets, one threshold at a time."""
    order = sorted(range(len(boxes)), key=lambda row: -scores[row])
    quality = [0.0] * len(boxes)
    taken = set()
    for twentieths in range(19, 9, -1):
        for row in order:
            if quality[row]:
                continue
            best, chosen = 0.0, None
            for number, edges in enumerate(objects):
                if number in taken or crowd[number] or object_labels[number] != labels[row]:
                    continue
                overlap = float(iou(Box(0, boxes[row], 0), Box(0, edges, 0)))
                if overlap >= twentieths / 20 and overlap > best:
                    best, chosen = overlap, number
            if chosen is not None:
                quality[row] = best
                taken.add(chosen)
    return quality


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def affine(weight, bias, x):
    return [dot(row, x) + b for row, b in zip(weight, bias, strict=True)]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(values):
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def mean(weights, rows):
    return [dot(weights, column) for column in zip(*rows, strict=True)]


def additive_attention(decoded, encoded, asked, known, bias, weigh):
    """Return the context of each row of one sequence (arXiv 1409.0473)."""
    contexts = []
    for d in decoded:
        likeness = []
        for e in encoded:
            hidden = [
                math.tanh(a + k)
                for a, k in zip(
                    affine(asked, [0.0] * len(asked), d), affine(known, bias, e), strict=True
                )
            ]
            likeness.append(dot(weigh, hidden))
        contexts.append(mean(softmax(likeness), encoded))
    return contexts


def context_gate(x, d, a, gate, target, source):
    """Return tanh(target + z * source) for one box; the last three are (weight, bias)."""
    z = [sigmoid(value) for value in affine(*gate, x + d + a)]
    return [
        math.tanh(t + share * s)
        for t, share, s in zip(affine(*target, x + d), z, affine(*source, a), strict=True)
    ]
