"""Dumps to re-score, with their truth: objects with boxes about them, and features that tell."""

import json

import torch

from postnms.candidate_files import CandidateWriter, open_candidates, open_truth
from postnms.data.dataset import Category
from postnms.rescoring import (
    ContextualConfig,
    RelationConfig,
    Rescorer,
    SCEConfig,
    build_network,
)
from postnms.structures import Candidates

CLASSES = ("cell", "dot")
SIDE = 64
"""Height and width of every image in pixels; the width is twice of it."""
TINY = {"hidden": 8, "batch_size": 4, "epochs": 2}
"""Settings of a contextual rescorer that trains in no time."""
TINY_SCE = {"hidden": 8, "width": 8, "attention": 4, "epochs": 1}
TINY_RELATION = {"width": 8, "heads": 2, "keys": 6, "epochs": 1}


def tiny_rescorer(kind="contextual", classes=CLASSES, features=3, **changes):
    """Return an untrained rescorer with fixed weights."""
    if kind == "sce":
        config = SCEConfig(**TINY_SCE | changes)
    elif kind == "relation":
        config = RelationConfig(**TINY_RELATION | changes)
    else:
        config = ContextualConfig(**TINY | {"suppressor": "nms"} | changes)
        features = 0
    network = build_network(config, len(classes), features)
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return Rescorer(config, tuple(classes), network, {"seed": 5})


def found(counts, seed=0, features=3, **changes):
    """Return random candidates, so many of each image, in images of 64 x 128 pixels."""
    generator = torch.Generator().manual_seed(seed)
    rows = sum(counts)
    corners = torch.rand(rows, 2, generator=generator) * torch.tensor([2 * SIDE - 24, SIDE - 24])
    sides = 4 + 20 * torch.rand(rows, 2, generator=generator)
    columns = {
        "boxes": torch.cat([corners, corners + sides], 1),
        "scores": 0.02 + 0.9 * torch.rand(rows, generator=generator),
        "labels": torch.randint(0, 2, (rows,), generator=generator),
        "image": torch.arange(len(counts)).repeat_interleave(torch.tensor(counts).long()),
        "source": torch.arange(rows),
        "num_images": len(counts),
        "extra": {"box_features": torch.randn(rows, features, generator=generator)},
    }
    return Candidates(**columns | changes)


def sizes(images):
    """Return the sizes of so many images: (images, 2)."""
    return torch.tensor([[float(SIDE), 2.0 * SIDE]]).repeat(images, 1)


def write_truth(path, boxes, ids=None, sized=True):
    """Write annotations: for each image a list of (label, x, y, width, height)."""
    ids = list(range(1, len(boxes) + 1)) if ids is None else ids
    size = {"height": SIDE, "width": 2 * SIDE} if sized else {}
    objects = [
        {"image_id": own, "category_id": 1 + label, "bbox": box}
        for own, of_image in zip(ids, boxes, strict=True)
        for label, *box in of_image
    ]
    content = {
        "images": [{"id": own, "file_name": f"{own}.png", **size} for own in ids],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(objects)],
        "categories": [{"id": 1 + label, "name": name} for label, name in enumerate(CLASSES)],
    }
    path.write_text(json.dumps(content))


def write_dump(path, parts, classes=CLASSES, annotations="instances_train.json", **facts):
    """Write candidates of several batches of images; ids count from 1."""
    categories = [Category(1 + label, name) for label, name in enumerate(classes)]
    facts = {"split": "train", "nms_threshold": 0.5} | facts
    with CandidateWriter(path, categories, annotations, facts) as writer:
        first = 1
        for part in parts:
            writer.add(part, range(first, first + part.num_images))
            first += part.num_images
    return open_candidates(path)


def duplicates(folder, images=24, seed=0):
    """Return a dump and its truth: two objects an image, each with one good box and two others.

    NMS at 0.5 keeps a duplicate of each good box, which lies beside the object and often scores
    more. Its features, and its shape, tell it from a good box.
    """
    generator = torch.Generator().manual_seed(seed)
    truth, parts = [], []
    for _ in range(images):
        boxes, scores, labels, good, objects = [], [], [], [], []
        for number in range(2):
            x, y = 4 + 60 * number, int(torch.randint(4, 30, (1,), generator=generator))
            label = int(torch.randint(0, 2, (1,), generator=generator))
            objects.append((label, x, y, 24, 24))
            boxes += [(x, y, x + 24, y + 24), (x + 1, y, x + 25, y + 24), (x, y, x + 48, y + 10)]
            drawn = torch.rand(3, generator=generator).tolist()
            scores += [0.5 + 0.3 * drawn[0], 0.3 + 0.2 * drawn[1], 0.55 + 0.3 * drawn[2]]
            labels += 3 * [label]
            good += [1.0, 0.5, 0.0]
        count = len(boxes)
        column = torch.tensor(good)[:, None]
        parts.append(
            Candidates(
                torch.tensor(boxes, dtype=torch.float32),
                torch.tensor(scores),
                torch.tensor(labels),
                torch.zeros(count, dtype=torch.int64),
                torch.arange(count),
                1,
                {"box_features": torch.cat([column, 1 - column, column * 0], 1)},
            )
        )
        truth.append(objects)
    write_truth(folder / "instances_train.json", truth)
    file = write_dump(folder / "train.safetensors", parts)
    return file, open_truth(file, folder / "instances_train.json")
