"""CP-Cluster and Confluence in plain loops: suppressors that work in rounds. See oracles.py."""

import numpy as np

from tests.support.oracles import Box, F, iou, select_best


def cp_cluster(group, config):
    """Two rounds, in each of which every box sends messages, and then all boxes take theirs."""
    boxes = {box.row: Box(box.row, box.edges, box.score) for box in group}
    times = {}
    for closest in (False, True):
        raising, lowering = cp_messages(boxes, config, times, closest)
        boxes = {
            row: cp_update(box, raising[row], lowering.get(row), config)
            for row, box in boxes.items()
        }
        for row, (sender, _) in lowering.items():
            times[sender.row, row] = times.get((sender.row, row), 0) + 1
    changed = [(box, boxes[box.row]) for box in group]
    return [(box, new.edges, new.score) for box, new in changed if new.score >= F(config.min_score)]


def cp_messages(boxes, config, times, closest):
    """Return the friends of each box, and the one box that lowers it with their IoU."""
    active = [box for box in boxes.values() if box.score >= F(config.min_score)]
    raising = {row: [] for row in boxes}
    lowering = {}
    for strong in active:
        for weak in active:
            if (-weak.score, weak.row) <= (-strong.score, strong.row):
                continue
            overlap = iou(strong, weak)
            if overlap > F(config.friend_threshold):
                raising[strong.row].append(weak)
            if times.get((strong.row, weak.row), 0) > config.repeat:
                continue
            if overlap > F(config.iou_threshold + config.step * closest):
                sent = lowering.get(weak.row)
                rank = (overlap if closest else 0, strong.score, -strong.row)
                if not sent or rank > (sent[1] if closest else 0, sent[0].score, -sent[0].row):
                    lowering[weak.row] = (strong, overlap)
    return raising, lowering


def cp_update(box, friends, lowered, config):
    edges, score = box.edges, box.score
    if friends:
        best = min(friends, key=lambda friend: (-friend.score, friend.row))
        m = F(len(friends))
        score = score + (F(1) - score) * (m / (m + F(1))) * best.score
        total = score + best.score
        if config.move_boxes and total > 0:
            edges = tuple(
                (own * score + other * best.score) / total
                for own, other in zip(edges, best.edges, strict=True)
            )
    return Box(box.row, edges, score - score * lowered[1] if lowered else score)


def proximity(a, b):
    total = F(0)
    for low, high in ((0, 2), (1, 3)):
        extent = max(a.edges[high], b.edges[high]) - min(a.edges[low], b.edges[low])
        if extent > 0:
            total += (
                abs(a.edges[low] - b.edges[low]) + abs(a.edges[high] - b.edges[high])
            ) / extent
    return total


def loneliness(entry, current, threshold):
    others = [proximity(entry[0], other[0]) for other in current if other is not entry]
    terms = [int(float(min(p, F(1)) if p < threshold else F(1)) * 2**32) for p in others]
    return sum(terms) / max(len(terms), 1) * float(F(1) - entry[1])


def confluence(group, config):
    threshold = F(config.threshold)
    current = [[box, box.score] for box in group if box.score >= F(config.min_score)]
    kept = []
    while current:
        if config.selection == "score":
            best = select_best(current)
        else:
            best = min(
                (loneliness(entry, current, threshold), entry[0].row, entry) for entry in current
            )[-1]
        near = [e for e in current if e is not best and proximity(best[0], e[0]) < threshold]
        kept.append((best[0], best[0].edges, max(e[1] for e in [best, *near])))
        current.remove(best)
        for entry in near:
            p = proximity(best[0], entry[0])
            entry[1] *= (
                np.exp(-((F(1) - p) ** 2) / F(config.sigma))
                if config.decay == "gaussian"
                else min(p, F(1))
            )
        gone = (
            near
            if config.decay == "suppress"
            else [e for e in near if not e[1] >= F(config.min_score)]
        )
        current = [entry for entry in current if not any(entry is other for other in gone)]
    return kept
