"""CP-Cluster and Confluence in plain loops: suppressors that work in rounds. See oracles.py."""

import numpy as np

from tests.support.oracles import F, iou, select_best


def cp_cluster(group, config):
    scores = {id(box): box.score for box in group}
    silenced = {}
    for closest in (False, True):
        scores, silenced = cp_round(group, config, scores, silenced, closest)
    return [
        (box, box.edges, scores[id(box)]) for box in group if scores[id(box)] >= F(config.min_score)
    ]


def cp_round(group, config, scores, silenced, closest):
    def standing(box):
        return -scores[id(box)], box.row

    threshold = F(config.iou_threshold + 0.1 * closest)
    active = [box for box in group if scores[id(box)] >= F(config.min_score)]
    new, by = dict(scores), {}
    for box in active:
        weaker = [other for other in active if standing(other) > standing(box)]
        friends = [
            scores[id(other)] for other in weaker if iou(box, other) > F(config.friend_threshold)
        ]
        n, best = F(len(friends)), max(friends, default=F(0))
        raised = new[id(box)] + (F(1) - new[id(box)]) * (n / (n + F(1))) * best
        above = [(other, iou(other, box)) for other in active if standing(other) < standing(box)]
        above = [(other, overlap) for other, overlap in above if overlap > threshold]
        above = [(other, overlap) for other, overlap in above if silenced.get(id(box)) is not other]
        if above:
            ranked = sorted(above, key=lambda pair: standing(pair[0]))
            by[id(box)], overlap = max(ranked, key=lambda pair: pair[1]) if closest else ranked[0]
            raised = raised - raised * overlap
        new[id(box)] = raised
    return new, by


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
