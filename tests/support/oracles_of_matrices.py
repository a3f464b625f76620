"""Cluster-NMS in plain loops over the matrices of its authors. See oracles.py."""

import math

from tests.support.oracles import F, distance, iou, mean


def cluster_nms(group, config):
    """The functions of the authors for one group, whose boxes come by falling score.

    Row i of a matrix belongs to the better box of a pair, column j to the worse one. All other
    entries are 0.
    """
    by_distance = config.distance and not config.score_penalty
    plain = upper(group, iou)
    apart = upper(group, lambda a, b: distance(a, b) ** F(config.beta))
    overlaps = [
        [x - d if by_distance else x for x, d in zip(*rows, strict=True)]
        for rows in zip(plain, apart, strict=True)
    ]
    keys = fixed_point(overlaps, F(config.iou_threshold))
    kept_rows = [[x * key for x in row] for row, key in zip(overlaps, keys, strict=True)]
    scores = [float(box.score) for box in group]
    stays = keys
    if config.score_penalty:
        scores = penalised(scores, kept_rows, apart, config)
        stays = [F(score) > F(config.min_score) for score in scores]
    boxes = [box.edges for box in group]
    if config.weighted and config.moved == "keys":
        boxes = means(group, kept_rows, scores, config)
    elif config.weighted:
        rows = [[x * stay for x in row] for row, stay in zip(plain, stays, strict=True)]
        boxes = means(group, rows, [1.0] * len(group), config)
    found = zip(group, boxes, scores, stays, strict=True)
    return [(box, edges, score) for box, edges, score, stay in found if stay]


def upper(group, measure):
    return [
        [measure(a, b) if i < j else F(0) for j, b in enumerate(group)] for i, a in enumerate(group)
    ]


def fixed_point(matrix, threshold):
    """Clear the rows of boxes that a row that is left suppresses, until nothing changes."""
    left = [True] * len(matrix)
    while True:
        columns = [
            max((row[j] * stays for row, stays in zip(matrix, left, strict=True)), default=F(0))
            for j in range(len(matrix))
        ]
        again = [not most > threshold for most in columns]
        if again == left:
            return left
        left = again


def penalised(scores, rows, apart, config):
    lowered = []
    for j, score in enumerate(scores):
        for i, row in enumerate(rows):
            if row[j] > 0:
                factor = math.exp(-(float(row[j]) ** 2) / config.sigma)
                score *= min(factor + float(apart[i][j]), 1) if config.distance else factor
        lowered.append(score)
    return lowered


def means(group, rows, scores, config):
    moved = []
    for i, row in enumerate(rows):
        weights = [
            (1.0 if i == j else float(x) * (x > F(config.vote_threshold))) * score
            for j, (x, score) in enumerate(zip(row, scores, strict=True))
        ]
        moved.append(mean(group, weights, group[i]))
    return moved
