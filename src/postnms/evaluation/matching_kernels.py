"""Compiled loops of COCO's matching, see :mod:`postnms.evaluation.matching`.

They are compiled, because each choice depends on the choices before it and cannot be vectorised,
and because groups are many and small. They write into arrays that the caller makes, so that several
threads can share the groups.

m: objects and crowd regions, d: detections, T: IoU thresholds, A: ranges of area.
"""

import numpy as np

from postnms.ops.jit import exact, exact_inlined

WRONG, RIGHT, IGNORED = range(3)
"""What is said of a detection: it is wrong, it is right, or it counts as neither."""


@exact_inlined
def _iou(boxes, d, truths, g, crowd):  # pragma: no cover: compiled
    """Return the IoU of box ``d`` and object ``g``, in [0, 1].

    If ``g`` is a crowd region (``crowd``), return the fraction of the box that is inside it.
    """
    width = min(boxes[d, 0] + boxes[d, 2], truths[g, 0] + truths[g, 2]) - max(
        boxes[d, 0], truths[g, 0]
    )
    height = min(boxes[d, 1] + boxes[d, 3], truths[g, 1] + truths[g, 3]) - max(
        boxes[d, 1], truths[g, 1]
    )
    if width <= 0 or height <= 0:
        return 0.0
    area = boxes[d, 2] * boxes[d, 3]
    return width * height / (area if crowd else area + truths[g, 2] * truths[g, 3] - width * height)


@exact
def match_groups(
    groups, starts, boxes, lows, highs, order, truths, crowd, areas, limits, thresholds, taken,
    verdicts,
):  # pragma: no cover: compiled  # fmt: skip
    """Match some groups at every threshold and for every range of area.

    Args:
        groups: (first, end) of the groups.
        starts: group i has the detections ``starts[i]`` to ``starts[i + 1]`` (exclusive).
        boxes: (d, 4) boxes of the detections, by group and falling score.
        lows, highs: group i has the objects ``order[lows[i]:highs[i]]``.
        order: rows of the objects, by group and in the order of the truth.
        truths: (m, 4) boxes of the objects and crowd regions.
        crowd: (m,) bool.
        areas: (m,) areas of the objects.
        limits: (A, 2) smallest and largest area of each range, both included.
        thresholds: (T,) IoU thresholds.
        taken: (d,) of -1, where the rows of the objects are written to that are taken at the first
            threshold in the first range.
        verdicts: (A, T, d) of :data:`WRONG`, where :data:`RIGHT` or :data:`IGNORED` is written to.
    """
    for i in range(groups[0], groups[1]):
        first = starts[i]
        count = starts[i + 1] - first
        rows = order[lows[i] : highs[i]]
        # The overlaps are the same for all thresholds and ranges, so they are computed once.
        iou = np.empty((count, len(rows)))
        most = np.zeros(count)
        for d in range(count):
            for g in range(len(rows)):
                iou[d, g] = _iou(boxes, first + d, truths, rows[g], crowd[rows[g]])
                most[d] = max(most[d], iou[d, g])
        ignored = np.empty(len(rows), np.bool_)
        turn = np.empty(len(rows), np.int64)
        choices = np.empty(count, np.int64)
        for a in range(len(limits)):
            _take_turns(rows, crowd, areas, limits[a], ignored, turn)
            for t in range(len(thresholds)):
                if len(rows):
                    _choose(iou, most, crowd, rows, ignored, turn, thresholds[t], choices)
                for d in range(count):
                    g = choices[d] if len(rows) else -1
                    if g >= 0:
                        verdicts[a, t, first + d] = IGNORED if ignored[g] else RIGHT
                        if a == 0 and t == 0:
                            taken[first + d] = rows[g]
                    elif _is_outside(boxes[first + d, 2] * boxes[first + d, 3], limits[a]):
                        verdicts[a, t, first + d] = IGNORED


@exact_inlined
def _is_outside(area, limits):  # pragma: no cover: compiled
    return area < limits[0] or area > limits[1]


@exact
def _take_turns(rows, crowd, areas, limits, ignored, turn):  # pragma: no cover: compiled
    """Write which objects of a group are ignored, and the order in which they are looked at.

    Objects that count come before the others, both in the order of the truth.

    Args:
        rows: (g,) rows of the objects of the group.
        crowd, areas: columns of all objects.
        limits: (2,) smallest and largest area that counts.
        ignored: (g,) bool, written to: crowd regions, and objects outside the limits.
        turn: (g,) positions in the group, written to.
    """
    place = 0
    for g in range(len(rows)):
        ignored[g] = crowd[rows[g]] or _is_outside(areas[rows[g]], limits)
        if not ignored[g]:
            turn[place] = g
            place += 1
    for g in range(len(rows)):
        if ignored[g]:
            turn[place] = g
            place += 1


@exact
def _choose(
    iou, most, crowd, rows, ignored, turn, threshold, choices
):  # pragma: no cover: compiled
    """Let the detections of a group choose by falling score, and write positions of objects.

    Args:
        iou: (c, g) overlaps of the detections, by falling score, and the objects.
        most: (c,) the largest overlap of each detection.
        crowd: crowd regions among all objects.
        rows: (g,) rows of the objects of the group.
        ignored, turn: (g,) from :func:`_take_turns`.
        threshold: IoU threshold.
        choices: (c,) where the positions of the objects are written to. -1: none.
    """
    free = np.ones(len(rows), np.bool_)
    # COCO lowers a threshold of 1, so that rounding cannot exclude a perfect box.
    lowest = min(threshold, 1 - 1e-10)
    for d in range(len(iou)):
        best = -1
        least = lowest
        if most[d] >= lowest:
            for g in turn:
                # An object can be taken once, a crowd region any number of times.
                if not free[g] and not crowd[rows[g]]:
                    continue
                # Ignored objects come last, for detections that no other object suits.
                if best >= 0 and not ignored[best] and ignored[g]:
                    break
                # With >=, the last of several objects with equal IoU is taken, as in COCO.
                if iou[d, g] >= least:
                    best = g
                    least = iou[d, g]
        choices[d] = best
        if best >= 0:
            free[best] = False


@exact
def closest(
    detections, image, label, boxes, starts, order, labels, truths, best, row
):  # pragma: no cover: compiled
    """Write the largest IoU of each detection, and the row of its object, into two (2, d) arrays.

    Index 0 is for objects of the detection's class, index 1 for objects of the other classes.

    Args:
        detections: (first, end) of the rows of the detections.
        image, label, boxes: columns of the detections.
        starts, order: the objects of image b are ``order[starts[b]:starts[b + 1]]``.
        labels, truths: columns of the objects.
        best: (2, d) of 0.
        row: (2, d) of -1.
    """
    for d in range(detections[0], detections[1]):
        for g in order[starts[image[d]] : starts[image[d] + 1]]:
            iou = _iou(boxes, d, truths, g, False)
            side = 0 if labels[g] == label[d] else 1
            if iou > best[side, d]:
                best[side, d] = iou
                row[side, d] = g
