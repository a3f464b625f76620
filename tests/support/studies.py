"""Annotations on disk, and candidates near their objects."""

import json

import numpy as np
import torch
from PIL import Image

from postnms.analysis.study import Study
from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category
from postnms.data.formats.coco import read_truth
from postnms.structures import Candidates


def write_truth(path, images, classes=3, seed=0):
    """Three objects an image, where :func:`random_candidates` has its boxes."""
    random = np.random.default_rng(seed)
    annotations = []
    for image in range(images):
        for _ in range(3):
            box = [*(80 * random.random(2)), *(10 + 30 * random.random(2))]
            entry = {
                "image_id": 10 + image,
                "category_id": 1 + int(random.integers(classes)),
                "bbox": box,
            }
            annotations.append({"id": len(annotations) + 1, **entry})
    content = {
        "images": [{"id": 10 + image} for image in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1 + label, "name": f"class {label}"} for label in range(classes)],
    }
    path.write_text(json.dumps(content))
    return read_truth(path)


def around_objects(truth, image_ids):
    """Eight boxes about each object of the images, most of them of its class."""
    random = np.random.default_rng(0)
    objects = [
        entry
        for entry in truth.content["annotations"]
        if entry["image_id"] in image_ids
        for _ in range(8)
    ]
    boxes = np.array([entry["bbox"] for entry in objects]) + random.normal(0, 2, (len(objects), 4))
    boxes[:, 2:] += boxes[:, :2]
    labels = [(entry["category_id"] - 1 + (random.random() < 0.1)) % 3 for entry in objects]
    return Candidates(
        torch.tensor(boxes, dtype=torch.float32),
        torch.tensor(random.random(len(objects)), dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor([image_ids.index(entry["image_id"]) for entry in objects]),
        torch.arange(len(objects)),
        len(image_ids),
    )


def as_coco(found):
    """Boxes with labels and scores as COCO results on the images of :func:`write_truth`."""
    columns = (found.image, found.labels, found.scores, found.boxes)
    return [
        {
            "image_id": 10 + image,
            "category_id": 1 + label,
            "bbox": [x, y, right - x, bottom - y],
            "score": score,
        }
        for image, label, score, (x, y, right, bottom) in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def write_candidates(path, candidates, annotations="instances_val.json"):
    """A file of candidates of the first two images of :func:`write_truth` with three classes."""
    categories = tuple(Category(1 + label, f"class {label}") for label in range(3))
    with CandidateWriter(path, categories, annotations, {}) as writer:
        writer.add(candidates, [10, 11])


def picture_width(path):
    with Image.open(path) as picture:
        return picture.width


def small_study(folder):
    """Return candidates of five images and their truth, both written to a folder."""
    data = folder / "instances_val.json"
    truth = write_truth(data, 5)
    path = folder / "c.safetensors"
    with CandidateWriter(path, truth.categories, data.name, {}) as writer:
        for ids in ((10, 11, 12), (13, 14)):
            writer.add(around_objects(truth, ids), ids)
    return Study(open_candidates(path), truth, data)
