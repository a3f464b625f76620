"""Small data folders in every layout, written by hand, and by ``globox`` as an independent tool."""

import json

from globox import Annotation, AnnotationSet, BoundingBox
from PIL import Image

NAMES = ("cat", "big dog", "Überfisch")
SIZE = (40, 30)
"""Width and height of the images in pixels."""
SPLITS = {
    "train": {
        "a b.jpg": [(0, (4.0, 6.0, 10.0, 12.0)), (2, (0.0, 0.0, 40.0, 30.0))],
        "ö.jpg": [(1, (20.0, 3.0, 8.0, 24.0))],
        "none.jpg": [],
    },
    "val": {"v.jpg": [(1, (8.0, 9.0, 16.0, 3.0))]},
}
"""(class, (x, y, width, height)) of the objects, by split and image."""


def write_image(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def globox_set(split):
    """Return a split in the structures of ``globox``."""
    annotations = [
        Annotation(
            name,
            SIZE,
            [
                BoundingBox(label=NAMES[label], xmin=x, ymin=y, xmax=x + w, ymax=y + h)
                for label, (x, y, w, h) in objects
            ],
        )
        for name, objects in SPLITS[split].items()
    ]
    return AnnotationSet(annotations)


def write_coco(root):
    """This library's layout."""
    for split, images in SPLITS.items():
        labels = {name: number for number, name in enumerate(NAMES, 1)}
        ids = {name: number for number, name in enumerate(images)}
        globox_set(split).save_coco(
            root / f"instances_{split}.json", label_to_id=labels, imageid_to_id=ids
        )
        for name in images:
            write_image(root / "images" / name)


def write_roboflow(root, group="creatures"):
    """Each split numbers its images from 0, and class 0 is the group of all others."""
    for split, images in SPLITS.items():
        folder = root / {"train": "train", "val": "valid"}[split]
        for name in images:
            write_image(folder / name)
        labels = {name: number for number, name in enumerate(NAMES, 1)}
        ids = {name: number for number, name in enumerate(images)}
        content = globox_set(split).to_coco(label_to_id=labels, imageid_to_id=ids)
        for category in content["categories"]:
            category["supercategory"] = group
        content["categories"].insert(0, {"id": 0, "name": group, "supercategory": "none"})
        write_text(folder / "_annotations.coco.json", json.dumps(content))


def write_yolo(root):
    for split, images in SPLITS.items():
        for name in images:
            write_image(root / split / "images" / name)
        labels = {name: number for number, name in enumerate(NAMES)}
        globox_set(split).save_yolo_darknet(root / split / "labels", label_to_id=labels)
    names = ", ".join(NAMES)
    write_text(
        root / "data.yaml",
        f"train: ../train/images\nval: ../val/images\nnc: {len(NAMES)}\nnames: [{names}]\n",
    )


def write_voc(root):
    (root / "Annotations").mkdir(parents=True)
    for split, images in SPLITS.items():
        for name in images:
            write_image(root / "JPEGImages" / name)
        globox_set(split).save_pascal_voc(root / "Annotations")
        stems = [name.rpartition(".")[0] for name in images]
        write_text(root / "ImageSets" / "Main" / f"{split}.txt", "\r\n".join(stems) + "\r\n")


def write_image_folder(root):
    names = "".join(f"            '{i}': {name}\n" for i, name in enumerate(NAMES))
    write_text(
        root / "README.md",
        "---\ndataset_info:\n  features:\n    - name: objects\n      sequence:\n"
        f"        class_label:\n          names:\n{names}---\n# A data set\n",
    )
    for split, images in SPLITS.items():
        folder = root / {"train": "train", "val": "validation"}[split]
        lines = []
        for name, objects in images.items():
            write_image(folder / name)
            listed = {"bbox": [box for _, box in objects], "categories": [k for k, _ in objects]}
            lines.append(json.dumps({"file_name": name, "objects": listed}))
        write_text(folder / "metadata.jsonl", "\n".join(lines) + "\n")


WRITERS = {
    "COCO": write_coco,
    "Roboflow COCO": write_roboflow,
    "YOLO": write_yolo,
    "Pascal VOC": write_voc,
    "Hugging Face image folder": write_image_folder,
}
"""A writer of each layout, by its kind."""
