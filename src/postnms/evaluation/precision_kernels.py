"""Compiled loops from verdicts by falling score to interpolated precisions.

The precision rises only where a detection is right, so the best precision at a recall or any higher
one is that of a right detection. The loops therefore compute it at right detections alone. Counts
are whole numbers below 2^53, so every precision equals that of pycocotools to the last bit.

d: detections, A: ranges of area, T: IoU thresholds, R: recalls, K: classes, B: images,
S: resamples, e: detections that are right or ignored at a threshold.
"""

import numpy as np

from postnms.evaluation.matching_kernels import IGNORED, RIGHT
from postnms.ops.jit import exact, exact_inlined


@exact
def _least_hits(objects, recalls, least):  # pragma: no cover: compiled
    """Write the smallest number of right detections that reaches each recall into ``least`` (R,).

    ``objects`` is the number of objects, at least 1.
    """
    for r in range(len(recalls)):
        hits = int(recalls[r] * objects)
        # The product is rounded, and COCO compares quotients.
        while hits > 0 and (hits - 1) / objects >= recalls[r]:
            hits -= 1
        while hits / objects < recalls[r]:
            hits += 1
        least[r] = hits


@exact_inlined
def _interpolate(hits, precision, count, least, values):  # pragma: no cover: compiled
    """Write the best precision at each recall, or any higher one, into ``values`` (R,).

    Args:
        hits: (e,) number of right detections, up to and with each right one. It does not fall.
        precision: (e,) precision at each right detection.
        count: number of right detections, the length of what is used of these two.
        least: (R,) hits that each recall needs, which do not fall.
        values: (R,) where the precisions are written to. 0: the recall is not reached.
    """
    reached = hits[count - 1] if count else 0
    r = len(least) - 1
    while r >= 0 and least[r] > reached:
        values[r] = 0.0
        r -= 1
    best = 0.0
    for e in range(count - 1, -1, -1):
        best = max(best, precision[e])
        before = hits[e - 1] if e else 0
        while r >= 0 and least[r] > before:
            values[r] = best
            r -= 1
    while r >= 0:
        values[r] = best
        r -= 1


@exact
def precisions_of_classes(
    classes, order, starts, ends, verdicts, objects, recalls, precision, recall
):  # pragma: no cover: compiled
    """Write the precision and the recall of some classes.

    Args:
        classes: (first, end) of the classes.
        order: (d,) rows of the detections, by class and falling score.
        starts, ends: (K,) class k has the detections ``order[starts[k]:ends[k]]``.
        verdicts: (A, T, d) the verdict on each row.
        objects: (A, K) number of objects.
        recalls: (R,) the recalls in rising order.
        precision: (A, T, R, K) where the precisions are written to. -1: there is no object.
        recall: (A, T, K) where the recall of all detections is written to. -1: there is no object.
    """
    values = np.empty(len(recalls))
    least = np.empty(len(recalls), np.int64)
    for k in range(classes[0], classes[1]):
        hits = np.empty(ends[k] - starts[k], np.int64)
        at_hit = np.empty(ends[k] - starts[k])
        for a in range(len(verdicts)):
            if objects[a, k] == 0:
                precision[a, :, :, k] = -1
                recall[a, :, k] = -1
                continue
            _least_hits(objects[a, k], recalls, least)
            for t in range(verdicts.shape[1]):
                right = 0
                seen = 0
                for d in order[starts[k] : ends[k]]:
                    verdict = verdicts[a, t, d]
                    if verdict != IGNORED:
                        seen += 1
                    if verdict == RIGHT:
                        hits[right] = right + 1
                        # COCO adds the spacing of 1, which avoids 0 / 0 if nothing has counted.
                        at_hit[right] = (right + 1) / (seen + np.spacing(1.0))
                        right += 1
                _interpolate(hits, at_hit, right, least, values)
                for r in range(len(values)):
                    precision[a, t, r, k] = values[r]
                recall[a, t, k] = right / objects[a, k]


@exact
def precisions_of_resamples(
    resamples, copies, image, starts, at, right, bounds, image_of_object, object_starts, recalls,
    means,
):  # pragma: no cover: compiled  # fmt: skip
    """Write the mean precision of all classes in some resamples.

    Args:
        resamples: (first, end) of the resamples.
        copies: (S, B) number of copies of each image.
        image: (d,) image of each detection, by class and falling score.
        starts: (K + 1,) class k has the detections ``starts[k]`` to ``starts[k + 1]`` (exclusive).
        at: (T * e,) positions of detections that are right or ignored, in rising order for each
            threshold.
        right: (T * e,) bool. False: the detection is ignored.
        bounds: (T, K + 1) threshold t of class k has ``at[bounds[t, k]:bounds[t, k + 1]]``.
        image_of_object: (m,) image of each object, by class.
        object_starts: (K + 1,) class k has the objects ``object_starts[k]`` and following.
        recalls: (R,) the recalls in rising order.
        means: (S, K, T) where the means over the recalls are written to. NaN: there is no object.
    """
    longest = 0
    for k in range(len(starts) - 1):
        longest = max(longest, starts[k + 1] - starts[k])
    seen = np.empty(longest, np.int64)
    hits = np.empty(longest, np.int64)
    at_hit = np.empty(longest)
    least = np.empty(len(recalls), np.int64)
    values = np.empty(len(recalls))
    for k in range(len(starts) - 1):
        first = starts[k]
        for s in range(resamples[0], resamples[1]):
            weight = copies[s]
            objects = 0
            for m in range(object_starts[k], object_starts[k + 1]):
                objects += weight[image_of_object[m]]
            if objects == 0:
                means[s, k] = np.nan
                continue
            # A copy of an image repeats its detections, so each of them counts that many times.
            total = 0
            for d in range(first, starts[k + 1]):
                total += weight[image[d]]
                seen[d - first] = total
            _least_hits(objects, recalls, least)
            for t in range(len(bounds)):
                found = 0
                ignored = 0
                count = 0
                for e in range(bounds[t, k], bounds[t, k + 1]):
                    d = at[e]
                    if right[e]:
                        found += weight[image[d]]
                        hits[count] = found
                        # COCO adds the spacing of 1, which avoids 0 / 0 if nothing has counted.
                        at_hit[count] = found / (seen[d - first] - ignored + np.spacing(1.0))
                        count += 1
                    else:
                        ignored += weight[image[d]]
                _interpolate(hits, at_hit, count, least, values)
                mean = 0.0
                for value in values:
                    mean += value / len(recalls)
                means[s, k, t] = mean
