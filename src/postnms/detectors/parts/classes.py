"""Which outputs of a classifier stand for which classes.

C: outputs of a classifier, K: classes, n: labels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

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
        return outputs[..., list(self.of_class)]

    def of_labels(self, labels: Tensor) -> Tensor:
        """Return the number of the output for each label: (n,) -> (n,)."""
        if self._contiguous:
            return labels + self.of_class[0]
        return torch.tensor(self.of_class, device=labels.device)[labels]

    @property
    def _contiguous(self) -> bool:
        first = self.of_class[0]
        return self.of_class == tuple(range(first, first + len(self.of_class)))


def truths_of(targets: Targets, classes: ClassOutputs) -> list[dict[str, Tensor]]:
    """Return boxes and labels of each image as the parts of torchvision take them.

    Labels are outputs of the classifier. Crowd regions are left out.
    """
    rows = [(targets.image == index) & ~targets.crowd for index in range(targets.num_images)]
    return [
        {"boxes": targets.boxes[row], "labels": classes.of_labels(targets.labels[row])}
        for row in rows
    ]
