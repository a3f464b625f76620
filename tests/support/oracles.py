"""The definitions of the suppressors in plain loops over one group of boxes.

Both backends must equal them. A group is a list of :class:`Box` by falling rank (ties: the lower
row). Each oracle returns (box, coordinates, score) of what is kept. Arithmetic is float32 wherever
a result is compared with a threshold or another result.
"""

import math
from dataclasses import dataclass, field

import numpy as np

F = np.float32


@dataclass
class Box:
    row: int
    edges: tuple[float, float, float, float]
    score: float
    source: int = 0
    extra: dict = field(default_factory=dict)

    def __post_init__(self):
        self.edges = tuple(F(edge) for edge in self.edges)
        self.score = F(self.score)

    @property
    def area(self):
        return (self.edges[2] - self.edges[0]) * (self.edges[3] - self.edges[1])


def shared(a, b):
    width = min(a.edges[2], b.edges[2]) - max(a.edges[0], b.edges[0])
    height = min(a.edges[3], b.edges[3]) - max(a.edges[1], b.edges[1])
    return max(width, F(0)) * max(height, F(0))


def iou(a, b):
    union = a.area + b.area - shared(a, b)
    return shared(a, b) / union if union > 0 else F(0)


def ios(a, b):
    smaller = min(a.area, b.area)
    return shared(a, b) / smaller if smaller > 0 else F(0)


def distance(a, b):
    across = (a.edges[0] + a.edges[2] - b.edges[0] - b.edges[2]) / F(2)
    down = (a.edges[1] + a.edges[3] - b.edges[1] - b.edges[3]) / F(2)
    width = max(a.edges[2], b.edges[2]) - min(a.edges[0], b.edges[0])
    height = max(a.edges[3], b.edges[3]) - min(a.edges[1], b.edges[1])
    diagonal = width * width + height * height
    return (across * across + down * down) / diagonal if diagonal > 0 else F(0)


def diou(beta):
    return lambda a, b: iou(a, b) - (distance(a, b) if beta == 1 else distance(a, b) ** F(beta))


def clusters(group, suppresses):
    """Lists of boxes, each led by its key: the first key that suppresses a box owns it."""
    found = []
    for box in group:
        for cluster in found:
            if suppresses(cluster[0], box):
                cluster.append(box)
                break
        else:
            found.append([box])
    return found


def as_is(boxes):
    return [(box, box.edges, box.score) for box in boxes]


def mean(boxes, weights, otherwise):
    total = sum(map(float, weights))
    if total <= 0:
        return otherwise.edges
    return tuple(
        sum(float(box.edges[i]) * float(w) for box, w in zip(boxes, weights, strict=True)) / total
        for i in range(4)
    )


def none(group, config):
    return as_is(group)


def greedy(group, config):
    measure = {"iou": iou, "ios": ios}[config.overlap]
    return as_is(
        c[0] for c in clusters(group, lambda a, b: measure(a, b) > F(config.iou_threshold))
    )


def diou_nms(group, config):
    measure = diou(config.beta)
    return as_is(
        c[0] for c in clusters(group, lambda a, b: measure(a, b) > F(config.iou_threshold))
    )


def set_nms(group, config):
    def suppresses(a, b):
        return a.source != b.source and iou(a, b) > F(config.iou_threshold)

    return as_is(c[0] for c in clusters(group, suppresses))


def adaptive(group, config):
    def suppresses(a, b):
        return iou(a, b) > max(F(config.iou_threshold), F(a.extra["density"]))

    return as_is(c[0] for c in clusters(group, suppresses))


def iou_guided(group, config):
    found = clusters(group, lambda a, b: iou(a, b) > F(config.iou_threshold))
    return [(c[0], c[0].edges, max(box.score for box in c)) for c in found]


def select_best(current):
    return min(current, key=lambda entry: (-entry[1], entry[0].row))


def soft(group, config, vote=None):
    current = [[box, box.score] for box in group if box.score >= F(config.min_score)]
    kept = []
    while current:
        best = select_best(current)
        edges = vote(best[0], [entry[0] for entry in current]) if vote else best[0].edges
        kept.append((best[0], edges, best[1]))
        current.remove(best)
        for entry in current:
            overlap = iou(best[0], entry[0])
            if getattr(config, "method", "gaussian") == "gaussian":
                entry[1] *= np.exp(-(overlap * overlap) / F(config.sigma))
            elif overlap > F(config.iou_threshold):
                entry[1] = entry[1] * (F(1) - overlap) if config.method == "linear" else F(-1)
        current = [entry for entry in current if entry[1] >= F(config.min_score)]
    return kept


def variance_voting(group, config):
    def vote(chosen, alive):
        edges = []
        for edge in range(4):
            weights, voters = [], []
            for box in alive:
                overlap = 1.0 if box is chosen else float(iou(chosen, box))
                if overlap > config.vote_iou:
                    variance = math.exp(box.extra["edge_log_variance"][edge])
                    weights.append(math.exp(-((1 - overlap) ** 2) / config.vote_sigma) / variance)
                    voters.append(float(box.edges[edge]))
            edges.append(sum(w * x for w, x in zip(weights, voters, strict=True)) / sum(weights))
        (left, right), (top, bottom) = sorted(edges[::2]), sorted(edges[1::2])
        return left, top, right, bottom

    return soft(group, config, vote)


def voting_score(method, beta, scores, overlaps):
    n = len(scores)
    if method == "avg":
        return sum(scores) / n
    if method == "iou_avg":
        return sum(s * o for s, o in zip(scores, overlaps, strict=True)) / sum(overlaps)
    if method == "generalized_avg":
        return (sum(s**beta for s in scores) / n) ** (1 / beta)
    if method == "quasi_sum":
        return sum(scores) / n**beta
    powers = [(s ** (1 / beta), (1 - s) ** (1 / beta)) for s in scores]
    return sum(a / (a + b) for a, b in powers) / n


def box_voting(group, config):
    kept = []
    for key, *_ in clusters(group, lambda a, b: iou(a, b) > F(config.iou_threshold)):
        voters = [box for box in group if box is key or iou(key, box) > F(config.vote_threshold)]
        scores = [float(box.score) for box in voters]
        overlaps = [1.0 if box is key else float(iou(key, box)) for box in voters]
        score = key.score
        if config.score_method != "id":
            score = voting_score(config.score_method, config.beta, scores, overlaps)
        kept.append((key, mean(voters, scores, key), score))
    return kept


def merge_nms(group, config):
    kept = []
    for key, *_ in clusters(group, lambda a, b: iou(a, b) > F(config.iou_threshold)):
        met = [box for box in group if box is key or iou(key, box) > F(config.iou_threshold)]
        kept.append((key, mean(met, [box.score for box in met], key), key.score))
    return kept


def nmw(group, config):
    threshold = F(config.iou_threshold)
    found = clusters(group, lambda a, b: iou(a, b) > threshold)
    if config.belongs_to == "best":
        keys = [c[0] for c in found]
        found = [[key] for key in keys]
        for place, box in enumerate(group):
            ahead = [
                k for k, key in enumerate(keys) if any(key is other for other in group[:place])
            ]
            if not any(box is key for key in keys):
                found[max(ahead, key=lambda k: (iou(keys[k], box), -k))].append(box)
    return [
        (c[0], mean(c, [box.score * iou(c[0], box) for box in c], c[0]), c[0].score) for c in found
    ]


def non_max_merge(group, config):
    measure = {"iou": iou, "ios": ios}[config.overlap]
    threshold = F(config.iou_threshold)
    kept = []
    for key, *members in clusters(group, lambda a, b: measure(a, b) > threshold):
        merged = Box(key.row, key.edges, key.score)
        for member in members:
            if measure(merged, member) > threshold:
                low = [min(merged.edges[i], member.edges[i]) for i in (0, 1)]
                high = [max(merged.edges[i], member.edges[i]) for i in (2, 3)]
                merged = Box(key.row, (*low, *high), key.score)
        kept.append((key, merged.edges, key.score))
    return kept


def wbc(group, config):
    kept = []
    for cluster in clusters(group, lambda a, b: iou(a, b) > F(config.iou_threshold)):
        key = cluster[0]
        weights = [float(iou(key, box) * box.area) for box in cluster]
        scores = [float(box.score) for box in cluster]
        box = mean(cluster, [w * s for w, s in zip(weights, scores, strict=True)], key)
        missing = max(config.expected_votes - len(cluster), 0)
        score = float(key.score)
        if sum(weights) > 0:
            total = sum(weights) + missing * sum(weights) / len(weights)
            score = sum(w * s for w, s in zip(weights, scores, strict=True)) / total
        kept.append((key, box, score))
    return kept


def wbf(group, config):
    """Fuse boxes, whose members are (box, weighted score, model).

    The group comes by falling weighted score.
    """
    fused = []
    weights = config.model_weights
    for box in group:
        model = int(box.extra["model"]) if len(weights) > 1 else 0
        weighted = F(box.score * F(weights[model]))
        overlaps = [iou(average, box) for _, average in fused]
        best = max(range(len(fused)), key=lambda k: (overlaps[k], -k), default=None)
        if best is None or not overlaps[best] > F(config.iou_threshold):
            best = len(fused)
            fused.append(([], None))
        members = [*fused[best][0], (box, weighted, model)]
        total, sums = F(0), [F(0)] * 4
        for member, w, _ in members:
            total += w
            sums = [s + w * edge for s, edge in zip(sums, member.edges, strict=True)]
        edges = tuple(s / total for s in sums) if total > 0 else members[0][0].edges
        fused[best] = (members, Box(-1, edges, 0))
    return [
        (m[0][0], average.edges, wbf_score(m, weights, config.confidence)) for m, average in fused
    ]


def wbf_score(members, weights, confidence):
    scores = [float(weighted) for _, weighted, _ in members]
    mean_score = sum(scores) / len(scores)
    own = sum(weights[model] for *_, model in members)
    seen = sum(weights[model] for model in {model for *_, model in members})
    if confidence == "max":
        return max(scores) / max(weights)
    if confidence == "avg":
        return mean_score * min(len(weights), len(members)) / sum(weights)
    if confidence == "box_and_model_avg":
        return mean_score * len(members) / own * seen / sum(weights)
    return mean_score * len(members) / (own + sum(weights) - seen)


def fast(group, config):
    threshold = F(config.iou_threshold)
    return as_is(
        b for i, b in enumerate(group) if not any(iou(a, b) > threshold for a in group[:i])
    )


def matrix_nms(group, config):
    worst = [max((iou(a, b) for a in group[:j]), default=F(0)) for j, b in enumerate(group)]

    def f(overlap):
        overlap = float(overlap)
        return 1 - overlap if config.method == "linear" else math.exp(-config.sigma * overlap**2)

    kept = []
    for j, box in enumerate(group):
        ratios = [f(iou(group[i], box)) / f(worst[i]) for i in range(j) if f(worst[i]) > 0]
        score = float(box.score) * min([1.0, *ratios])
        if score >= config.min_score:
            kept.append((box, box.edges, score))
    return kept
