"""What the cluster viewer of a page shows of an image, as values that JSON can hold.

Boxes are x1, y1, x2, y2 in pixels of the image, with one digit after the point.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from postnms.boxes import paired_iou
from postnms.data.dataset import ImageId, Record, Truth
from postnms.errors import UserError
from postnms.evaluation.columns import ResultColumns
from postnms.evaluation.matching import Matching, closest_objects, match_results
from postnms.evaluation.numbering import category_positions
from postnms.evaluation.tide import VERDICT_UNCOUNTED, find_errors, verdicts
from postnms.report.clusters import ImageClusters, is_there
from postnms.report.pictures import as_data_uri
from postnms.structures import CLUSTER_OBJECTNESS, OBJECTNESS, REFINED

MOST_MEMBERS = 60
"""Largest number of members of a cluster that a page holds: those with the best scores."""


@dataclass(frozen=True)
class Judged:
    """What the evaluation says of the detections of one row in one image."""

    kinds: list[str]
    """For each detection, one of :data:`postnms.evaluation.tide.VERDICTS`."""
    ious: list[float]
    """IoU with its object, or with the closest object of its class. 0: there is none."""
    objects: list[int]
    """Position, among the objects of the image, of the one that it finds. -1: it finds none."""


def describe(
    truth: Truth,
    images: Sequence[ImageId],
    clusters: Mapping[ImageId, ImageClusters],
    records: Mapping[ImageId, Record],
) -> list[dict[str, Any]]:
    """Return what the viewer shows of some images, in their order.

    Args:
        truth: the annotations of the split.
        images: ids of the images.
        clusters: the clusters of the images. One that is missing is shown without boxes.
        records: where the pictures are. One that is missing, or that cannot be read, is shown
            without its picture.
    """
    wanted = set(images)
    part = truth.part(lambda entry: entry["id"] in wanted)
    names = list(next(iter(clusters.values())).rows) if clusters else []
    judged = {name: _judge(part, clusters, name) for name in names}
    entries = {entry["id"]: entry for entry in part.images}
    objects = _objects_of(part)
    cases = []
    for image in images:
        record = records.get(image)
        picture, size, problem = _picture(record)
        case = {
            "name": name_of(entries[image], record),
            "size": size or _extent(objects.get(image, []), clusters.get(image)),
            "picture": picture,
            "problem": problem,
            "truth": objects.get(image, []),
            "rows": {},
            "clusters": [],
        }
        if image in clusters:
            of_rows = {name: judged[name][image] for name in names}
            case |= _boxes_of(clusters[image], of_rows, _label_table(part))
        elif not problem:
            case["problem"] = "The detector has not looked at this image."
        cases.append(case)
    return cases


def name_of(entry: Mapping[str, Any], record: Record | None) -> str:
    """Return the name of an image for people: that of its file, or its id."""
    if record is not None:
        return record.path.name
    return str(entry.get("file_name") or entry["id"])


def _picture(record: Record | None) -> tuple[str | None, list[int] | None, str]:
    """Return the data URI of an image, its (width, height), and what is wrong with it."""
    if record is None:
        return None, None, "The place of the image file is not known; name the data folder."
    size = [record.width, record.height]
    if not is_there(record):
        return None, size, f"The file {record.path.name} is missing."
    try:
        return as_data_uri(record.load()), size, ""
    except UserError as error:
        return None, size, str(error).replace(str(record.path), record.path.name)


def _extent(objects: Sequence[Sequence[float]], clusters: ImageClusters | None) -> list[int]:
    """Return a (width, height) around all boxes of an image whose size is not known."""
    corners = [entry[2:4] for entry in objects]
    if clusters is not None:
        corners += clusters.clusters.candidates.boxes[:, 2:].tolist()
    width, height = (
        (int(max(side)) + 1 for side in zip(*corners, strict=True)) if corners else (1, 1)
    )
    return [max(width, 1), max(height, 1)]


def _objects_of(truth: Truth) -> dict[ImageId, list[list[float]]]:
    """Return x1, y1, x2, y2, class, crowd of the objects of each image, in the truth's order."""
    labels = category_positions(truth)
    objects: dict[ImageId, list[list[float]]] = {}
    for entry in truth.annotations:
        if entry["category_id"] in labels:
            x, y, width, height = entry["bbox"]
            box = _rounded([x, y, x + width, y + height])
            about = [*box, labels[entry["category_id"]], int(bool(entry["iscrowd"]))]
            objects.setdefault(entry["image_id"], []).append(about)
    return objects


def _label_table(truth: Truth) -> list[int]:
    """Return the position in the truth's file of the class of each label. -1: it lacks the class.

    The labels are those of the candidates, which are those of the truth.
    """
    places = category_positions(truth)
    return [places.get(category.id, -1) for category in truth.categories]


def _judge(
    truth: Truth, clusters: Mapping[ImageId, ImageClusters], name: str
) -> dict[ImageId, Judged]:
    """Match the row ``name`` of all images, and return what follows for each."""
    rows = {image: of_image.rows[name] for image, of_image in clusters.items()}
    counts = [len(row.scores) for row in rows.values()]
    ids = list(rows)
    table = np.array(_label_table(truth), np.int64)
    labels = np.concatenate([np.empty(0, np.int64), *(row.labels.numpy() for row in rows.values())])
    image = np.repeat(np.arange(len(ids)), counts)
    boxes = np.concatenate(
        [np.empty((0, 4)), *(row.boxes.double().numpy() for row in rows.values())]
    )
    boxes[:, 2:] -= boxes[:, :2]
    scores = np.concatenate([np.empty(0), *(row.scores.double().numpy() for row in rows.values())])
    known = table[labels] >= 0
    columns = ResultColumns(
        ids, [c.id for c in truth.categories], image[known], labels[known],
        boxes[known].clip(min=[-np.inf, -np.inf, 0, 0]), scores[known],
    )  # fmt: skip
    matching = match_results(truth, columns)
    found = _found(matching, int(known.sum()))
    kinds = np.full(len(known), VERDICT_UNCOUNTED, found[0].dtype)
    ious, objects = np.zeros(len(known)), np.full(len(known), -1)
    kinds[known], ious[known], objects[known] = found
    judged = {}
    for number, own in enumerate(ids):
        mine = image == number
        rounded = [round(value, 3) for value in ious[mine].tolist()]
        judged[own] = Judged(kinds[mine].tolist(), rounded, objects[mine].tolist())
    return judged


def _found(matching: Matching, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the kind, the IoU and the object of each of ``count`` results, in the order given."""
    errors, results, objects = find_errors(matching), matching.results, matching.objects
    right = matching.correct[0]
    iou = closest_objects(matching)[0].iou.copy()
    if right.any():
        found = objects.boxes[matching.taken[right]]
        iou[right] = paired_iou(_corners(results.boxes[right]), _corners(found)).numpy()
    # The position of an object among those of its image.
    order = np.argsort(objects.image, kind="stable")
    firsts = np.searchsorted(objects.image[order], objects.image[order])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - firsts
    taken = np.where(right, np.append(place, -1)[matching.taken], -1)
    ious, finds = np.zeros(count), np.full(count, -1)
    ious[results.given], finds[results.given] = iou, taken
    return verdicts(matching, errors, count), ious, finds


def _corners(boxes: np.ndarray) -> torch.Tensor:
    corners = boxes.copy()
    corners[:, 2:] += corners[:, :2]
    return torch.from_numpy(corners).float()


def _boxes_of(
    image: ImageClusters, judged: Mapping[str, Judged], table: Sequence[int]
) -> dict[str, Any]:
    """Return the rows and the clusters of an image.

    A detection is ``[x1, y1, x2, y2, class, score, kind, IoU, object, cluster, candidate]``. The
    candidate is the box that it was, null where the row has not moved it.
    """
    assignment, boxes = image.clusters.assignment, image.clusters.candidates.boxes
    used: dict[int, int] = {}
    rows = {}
    for name, detections in image.rows.items():
        entries = []
        columns = zip(
            detections.boxes.tolist(),
            detections.labels.tolist(),
            detections.scores.tolist(),
            image.origins[name].tolist(),
            judged[name].kinds,
            judged[name].ious,
            judged[name].objects,
            strict=True,
        )
        for box, label, score, origin, kind, iou, found in columns:
            number = -1
            before = None
            if origin >= 0:
                number = used.setdefault(int(assignment[origin]), len(used))
                before = _rounded(boxes[origin].tolist())
            here = _rounded(box)
            moved = None if before == here else before
            about = [table[label], round(score, 4), kind, iou, found, number, moved]
            entries.append([*here, *about])
        rows[name] = entries
    return {"rows": rows, "clusters": [_cluster(image, position) for position in used]}


def _cluster(image: ImageClusters, position: int) -> dict[str, Any]:
    """Return one cluster: its key, its members, the representative box, the stage's verdict."""
    clusters = image.clusters
    candidates = clusters.candidates
    key = int(clusters.keys[position])
    members = (clusters.assignment == position).nonzero().squeeze(1)
    members = members[members != key]
    count = len(members)
    members = members[candidates.scores[members].argsort(descending=True, stable=True)]
    described: dict[str, Any] = {
        "key": [*_rounded(candidates.boxes[key].tolist()), round(float(candidates.scores[key]), 4)],
        "representative": _rounded(image.representatives[position].tolist()),
        "count": count,
        "members": [
            [*_rounded(box), round(score, 3)]
            for box, score in zip(
                candidates.boxes[members[:MOST_MEMBERS]].tolist(),
                candidates.scores[members[:MOST_MEMBERS]].tolist(),
                strict=True,
            )
        ],
    }
    extra = candidates.extra
    if REFINED in extra:
        described["refined"] = _rounded(extra[REFINED][key].tolist())
    names = {"s_obj": OBJECTNESS, "s_clu": CLUSTER_OBJECTNESS}
    for name, column in names.items():
        if column in extra:
            described[name] = round(float(extra[column][key]), 4)
    return described


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(value, 1) for value in box]
