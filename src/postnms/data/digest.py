"""A digest of the data of a run, which tells whether a run goes on with the data it began with."""

import hashlib
import json
from pathlib import Path

import numpy as np

from postnms.data.dataset import Dataset, Truth
from postnms.files.atomic import hash_of


def digest_of(train: Dataset, val: Dataset) -> str:
    """Return a hash, in hexadecimal, of the images' names and sizes and of all their objects.

    It depends on what the annotations say and on the order of the images, not on the form of the
    files or on the folder in which they lie. The pixels are not part of it.
    """
    digest = hashlib.sha256()
    for dataset in (train, val):
        named = [[category.id, category.name] for category in dataset.categories]
        digest.update(json.dumps(named).encode())
        for record in dataset.records:
            about = [record.id, record.path.name, record.height, record.width, len(record.labels)]
            digest.update(json.dumps(about).encode())
            for column in (record.boxes, record.labels, record.crowd):
                digest.update(column.tobytes())
    digest.update(_figures_of(val.truth).tobytes())
    return digest.hexdigest()


def annotations_hash(truth: Truth) -> str:
    """Return a hash, in hexadecimal, of the annotations of a split.

    It is that of the file where they are one COCO file, and otherwise that of the ids of images,
    the classes and the numbers of all objects.
    """
    source = Path(truth.source)
    if source.suffix == ".json" and source.is_file():
        return hash_of(source)
    named = [[category.id, category.name] for category in truth.categories]
    about = [named, [entry["id"] for entry in truth.images]]
    digest = hashlib.sha256(json.dumps(about).encode())
    digest.update(_figures_of(truth).tobytes())
    return digest.hexdigest()


def _figures_of(truth: Truth) -> np.ndarray:
    """Return the numbers of all objects that the evaluation reads, one object a row."""
    objects = truth.objects
    labels = {category.id: label for label, category in enumerate(truth.categories)}
    table = np.array([labels.get(own, -1) for own in objects.category_ids], np.int64)
    columns = [objects.image, table[objects.category], *objects.boxes.T, objects.area]
    return np.column_stack([*columns, objects.crowd]).astype(np.float64)
