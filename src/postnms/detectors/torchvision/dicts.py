"""The dicts that torchvision's detectors take as targets and give as detections.

One rule says what a label in a dict means: ``dict_labels`` of a detector has the label of each
class 0..K-1. For a detector that :func:`postnms.from_torchvision` has made, these are the labels of
that model: from 1 on where label 0 is the background, as in Faster R-CNN and SSD, and from 0 on for
RetinaNet and FCOS. For every other detector they are 0..K-1.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from postnms.devices import constant, number_of_each
from postnms.structures import Detections, Targets, derive


def targets_of_dicts(dicts: Sequence[Mapping[str, Tensor]], dict_labels: Sequence[int]) -> Targets:
    """Return torchvision's targets of a batch as one structure.

    Args:
        dicts: as for :meth:`postnms.Targets.from_dicts`.
        dict_labels: the label in the dicts of each class 0..K-1.

    Raises:
        ValueError: an entry is missing or has another form, or a label is not one of
            ``dict_labels``. The message names the image.
    """
    targets = Targets.from_dicts(dicts, labels_from=0, name="targets")
    class_of = torch.full((max(dict_labels) + 2,), -1, dtype=torch.int64)
    class_of[list(dict_labels)] = torch.arange(len(dict_labels))
    # Every label beyond the table falls on its last entry, which is no class.
    labels = class_of.to(targets.labels.device)[targets.labels.clamp(max=len(class_of) - 1)]
    wrong = labels < 0
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"targets[{int(targets.image[row])}]['labels']: expected {_named(dict_labels)}, "
            f"got {int(targets.labels[row])}"
        )
    return derive(targets, labels=labels)


def to_dicts(detections: Detections, dict_labels: Sequence[int]) -> list[dict[str, Tensor]]:
    """Return ``boxes``, ``labels`` and ``scores`` of each image, as torchvision's detectors do.

    ``dict_labels`` has the label in the dicts of each class 0..K-1.
    """
    labels = constant(dict_labels, torch.int64, detections.labels.device)[detections.labels]
    order = torch.argsort(detections.image, stable=True)
    counts = number_of_each(detections.image, detections.num_images).tolist()
    columns = {"boxes": detections.boxes, "labels": labels, "scores": detections.scores}
    parts = {name: column[order].split(counts) for name, column in columns.items()}
    return [
        {name: part[index] for name, part in parts.items()}
        for index in range(detections.num_images)
    ]


def _named(dict_labels: Sequence[int]) -> str:
    first, last = min(dict_labels), max(dict_labels)
    if last - first + 1 == len(dict_labels):
        return f"labels from {first} to {last}"
    return f"labels among the {len(dict_labels)} of the classes, from {first} to {last}"
