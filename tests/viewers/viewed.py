"""Annotations and results of which each detection has another verdict, worked out by hand."""

import json

from postnms.data.formats.coco import read_truth

NAMES = {5: 'cat & "co"', 2: "dog"}
"""The classes by their ids, in the order of the file."""
RESULTS = [
    (7, 5, (10, 10, 20, 20), 0.9, "right"),
    (7, 5, (11, 10, 20, 20), 0.8, "duplicate"),
    (7, 5, (20, 10, 20, 20), 0.7, "localisation"),  # IoU 1/3 with the first cat
    (7, 2, (60, 10, 20, 20), 0.6, "classification"),  # where the second cat is
    (7, 2, (5, 65, 10, 10), 0.5, "ignored"),  # in the crowd of dogs
    (3, 5, (80, 80, 10, 10), 0.95, "background"),
    (3, 5, (20, 10, 20, 20), 0.4, "both"),  # IoU 1/3 with a dog
]
"""Image, class, box, score and verdict."""
OBJECTS = [
    (7, 5, (10, 10, 20, 20), 0, False),
    (7, 5, (60, 10, 20, 20), 0, True),
    (7, 2, (0, 60, 40, 40), 1, False),
    (3, 2, (10, 10, 20, 20), 0, True),
]
"""Image, class, box, whether it is a crowd, and whether it is missed."""


def write_annotations(path, **image_fields):
    """Write the objects of two images, whose file has them against the order of names and ids."""
    images = [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a <1>.png"}]
    content = {
        "images": [{**image, "height": 100, "width": 120, **image_fields} for image in images],
        "categories": [{"id": number, "name": name} for number, name in NAMES.items()],
        "annotations": [
            {"image_id": image, "category_id": label, "bbox": box, "iscrowd": crowd}
            for image, label, box, crowd, _ in OBJECTS
        ],
    }
    path.write_text(json.dumps(content))
    return read_truth(path)


def results():
    """Return the results as COCO has them."""
    return [
        {"image_id": image, "category_id": label, "bbox": list(box), "score": score}
        for image, label, box, score, _ in RESULTS
    ]
