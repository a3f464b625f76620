"""Small problems of boxes on a grid, and error types in plain loops, which are their oracle."""

import numpy as np
from hypothesis import strategies as st

from postnms.evaluation.tide import ERROR_TYPES
from tests.support.coco import as_truth

RECALLS = np.linspace(0, 1, 101)
CATEGORIES = (2, 3, 7)
A, B, C = [0, 0, 10, 10], [50, 50, 10, 10], [20, 0, 10, 10]
"""Boxes that do not meet."""
STRIP = [0, 0, 10, 4]
"""IoU 0.4 with A."""
NOWHERE = [80, 80, 5, 5]


def problem(objects, detections, images=1):
    """Return a truth and results.

    Objects are (category, box, iscrowd = 0, image = 0). Detections are (category, box, score,
    image = 0).
    """
    content = {
        "images": [{"id": 5 * i + 4, "height": 100, "width": 100} for i in range(images)],
        "categories": [{"id": number, "name": f"c{number}"} for number in CATEGORIES],
        "annotations": [],
    }
    for category, box, *rest in objects:
        crowd, image = (*rest, *(0, 0)[len(rest) :])
        entry = {
            "id": len(content["annotations"]) + 1,
            "image_id": 5 * image + 4,
            "category_id": category,
        }
        content["annotations"].append(
            {**entry, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
        )
    results = [
        {
            "image_id": 5 * (image[0] if image else 0) + 4,
            "category_id": category,
            "bbox": box,
            "score": score,
        }
        for category, box, score, *image in detections
    ]
    return as_truth(content), results


def overlap(first, second, crowd=0):
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = first[2] * first[3]
    return width * height / (area if crowd else area + second[2] * second[3] - width * height)


def plain_matching(truth, results):
    """Return the detections by falling score, each with ``object``.

    That is the annotation that it takes, or None.
    """
    found = sorted(
        enumerate(results), key=lambda pair: (-pair[1]["score"], pair[1]["image_id"], pair[0])
    )
    found = [{**result, "object": None} for _, result in found]
    taken = set()
    for detection in found:
        best, least = None, 0.5
        for entry in sorted(truth.annotations, key=lambda entry: entry["iscrowd"]):
            if any(entry[key] != detection[key] for key in ("image_id", "category_id")):
                continue
            if entry["id"] in taken and not entry["iscrowd"]:
                continue
            if entry["iscrowd"] and best is not None and not best["iscrowd"]:
                continue
            if overlap(detection["bbox"], entry["bbox"], entry["iscrowd"]) >= least:
                best, least = entry, overlap(detection["bbox"], entry["bbox"], entry["iscrowd"])
        if best is not None:
            taken.add(best["id"])
            detection["object"] = best
    return found


def plain_errors(truth, results):
    """Return what :func:`plain_matching` returns, with ``kind`` and ``target`` of each detection.

    ``kind`` is None if the detection is right or ignored. ``target`` is an annotation or None.
    """
    found = plain_matching(truth, results)
    for detection in found:
        detection |= {"kind": None, "target": None}
        if detection["object"] is not None:
            continue
        own, other = (0.0, None), (0.0, None)
        for entry in truth.annotations:
            if entry["iscrowd"] or entry["image_id"] != detection["image_id"]:
                continue
            iou = overlap(detection["bbox"], entry["bbox"])
            if entry["category_id"] == detection["category_id"] and iou > own[0]:
                own = iou, entry
            if entry["category_id"] != detection["category_id"] and iou > other[0]:
                other = iou, entry
        if 0.1 <= own[0] < 0.5:
            detection |= {"kind": "localisation", "target": own[1]}
        elif other[0] >= 0.5:
            detection |= {"kind": "classification", "target": other[1]}
        elif own[0] >= 0.5:
            detection["kind"] = "duplicate"
        else:
            detection["kind"] = "background" if max(own[0], other[0]) < 0.1 else "both"
    return found


def plain_ap50(truth, points, objects):
    """Return AP50 of points (category, right) by falling score.

    ``objects`` are the annotations that are asked for.
    """
    values = []
    for category in sorted(
        {entry["category_id"] for entry in truth.annotations if not entry["iscrowd"]}
    ):
        rights = [right for number, right in points if number == category]
        asked = sum(entry["category_id"] == category for entry in objects)
        if not asked:
            values += [0.0] if rights else []
            continue
        hits = [sum(rights[:count]) for count in range(1, len(rights) + 1)]
        precisions = [
            [hit / count for count, hit in enumerate(hits, 1) if hit / asked >= recall]
            for recall in RECALLS
        ]
        values.append(sum(max(reached, default=0.0) for reached in precisions) / len(RECALLS))
    return 100 * sum(values) / len(values) if values else None


def plain_error_types(truth, results):
    """Return AP50, costs, counts, false positives and false negatives, or None without objects."""
    found = plain_errors(truth, results)
    objects = [entry for entry in truth.annotations if not entry["iscrowd"]]
    if not objects:
        return None
    matched = [d["object"]["id"] for d in found if d["object"] is not None]
    reached = [d["target"]["id"] for d in found if d["target"] is not None]
    unmatched = [entry for entry in objects if entry["id"] not in matched]
    missed = [entry for entry in unmatched if entry["id"] not in reached]

    def ap50(kind=None, without=()):
        points, done = [], set(matched)
        for d in found:
            if d["object"] is not None:
                points += [] if d["object"]["iscrowd"] else [(d["category_id"], True)]
            elif d["kind"] != kind and kind != "any":
                points.append((d["category_id"], False))
            elif kind != "any" and d["target"] is not None and d["target"]["id"] not in done:
                done.add(d["target"]["id"])
                points.append((d["target"]["category_id"], True))
        value = plain_ap50(truth, points, [entry for entry in objects if entry not in without])
        return 100.0 if value is None else value

    now = ap50()
    costs = {name: ap50(name) - now for name in ERROR_TYPES[:-1]} | {
        "missed": ap50(without=missed) - now
    }
    counts = {name: sum(d["kind"] == name for d in found) for name in ERROR_TYPES[:-1]} | {
        "missed": len(missed)
    }
    return now, costs, counts, ap50("any") - now, ap50(without=unmatched) - now


@st.composite
def problems(draw, most_images=2):
    """Few places, sizes and scores, so that ties, equal boxes and exact thresholds are common."""
    images = draw(st.integers(1, most_images))
    box = st.tuples(
        *[st.sampled_from([0, 0, 1, 4])] * 2, *[st.sampled_from([1, 4, 5, 10, 10])] * 2
    ).map(list)
    category, image = st.sampled_from(CATEGORIES[:2]), st.integers(0, images - 1)
    objects = draw(
        st.lists(st.tuples(category, box, st.sampled_from([0, 0, 0, 1]), image), max_size=6)
    )
    score = st.sampled_from([0.25, 0.5, 0.75])
    detections = draw(
        st.lists(st.tuples(st.sampled_from(CATEGORIES), box, score, image), max_size=10)
    )
    return problem(objects, detections, images)


def plain_average_precision(matching, copies):
    """Return AP in per cent from verdicts, where image i counts ``copies[i]`` times, or NaN.

    COCO's definition, detection by detection: the precision at a recall is the best one at the
    first detection that reaches it, or behind it.
    """
    objects, results = matching.objects, matching.results
    values = []
    for label in range(matching.num_classes):
        mine = (objects.label == label) & ~objects.crowd & (objects.area <= 1e10)
        asked = sum(int(copies[image]) for image in objects.image[mine])
        if not asked:
            continue
        rows = np.flatnonzero(results.label == label)
        for correct, counted in zip(matching.correct, matching.counted, strict=True):
            hits = misses = 0
            points = []
            for row in rows:
                hits += int(copies[results.image[row]]) * bool(correct[row])
                misses += int(copies[results.image[row]]) * bool(counted[row] and not correct[row])
                points.append((hits / asked, hits / max(hits + misses, 1)))
            best = [
                max([p for _, p in points[first:]], default=0)
                for target in RECALLS
                for first in [next((i for i, (r, _) in enumerate(points) if r >= target), None)]
                if first is not None
            ]
            values.append(sum(best) / len(RECALLS))
    return 100 * sum(values) / len(values) if values else float("nan")
