"""Which outputs of a classifier stand for which classes.

C: outputs of a classifier, K: classes, n: labels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.devices import constant, number_of_each
from postnms.structures import Targets


@dataclass(frozen=True)
class ClassOutputs:
    """Map from class labels 0..K-1 to outputs 0..C-1 of a classifier.

    Outputs for the background class or for unused classes are not in it.
    """

    of_class: tuple[int, ...]
    """The output that stands for each class, in the order of the labels."""
    count: int
    """Number of outputs C."""

    def __len__(self) -> int:
        return len(self.of_class)

    def take(self, outputs: Tensor) -> Tensor:
        """Return the outputs of the classes: (..., C) -> (..., K)."""
        # A slice is a view, where an index makes a copy.
        if self._contiguous:
            return outputs[..., self.of_class[0] : self.of_class[-1] + 1]
        return outputs[..., constant(self.of_class, torch.int64, outputs.device)]

    def of_labels(self, labels: Tensor) -> Tensor:
        """Return the number of the output for each label: (n,) -> (n,)."""
        if self._contiguous:
            return labels + self.of_class[0]
        return constant(self.of_class, torch.int64, labels.device)[labels]

    @property
    def _contiguous(self) -> bool:
        first = self.of_class[0]
        return self.of_class == tuple(range(first, first + len(self.of_class)))


def truths_of(targets: Targets, classes: ClassOutputs) -> list[dict[str, Tensor]]:
    """Return boxes and labels of each image as the parts of torchvision take them.

    Labels are outputs of the classifier. Crowd regions are left out.
    """
    # Crowd regions are sorted behind the last image, and what is left there is not used.
    image = torch.where(targets.crowd, targets.num_images, targets.image)
    order = torch.argsort(image, stable=True)
    counts = number_of_each(image, targets.num_images + 1).tolist()
    boxes = targets.boxes[order].split(counts)
    labels = classes.of_labels(targets.labels[order]).split(counts)
    pairs = list(zip(boxes, labels, strict=True))[: targets.num_images]
    return [{"boxes": of_image, "labels": label} for of_image, label in pairs]
