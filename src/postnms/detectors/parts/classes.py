"""Which outputs of a classifier stand for which classes.

C: outputs of a classifier, K: classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.structures import Targets


@dataclass(frozen=True)
class Columns:
    """Which output of a classifier stands for each class: a background, or outputs without a class, are left out."""

    of_class: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.of_class)

    def take(self, outputs: Tensor) -> Tensor:
        """Outputs (..., C) -> those of the classes (..., K)."""
        if self._contiguous:
            return outputs[..., self.of_class[0] : self.of_class[-1] + 1]
        return outputs[..., list(self.of_class)]

    def of_labels(self, labels: Tensor) -> Tensor:
        """Labels (n,), 0..K-1 -> outputs (n,), 0..C-1."""
        if self._contiguous:
            return labels + self.of_class[0]
        return torch.tensor(self.of_class, device=labels.device)[labels]

    @property
    def _contiguous(self) -> bool:
        return self.of_class == tuple(
            range(self.of_class[0], self.of_class[0] + len(self.of_class))
        )


def truths_of(targets: Targets, columns: Columns) -> list[dict[str, Tensor]]:
    """Boxes and labels of each image as torchvision's parts take them; crowd regions are left out."""
    rows = [(targets.image == index) & ~targets.crowd for index in range(targets.num_images)]
    return [
        {"boxes": targets.boxes[row], "labels": columns.of_labels(targets.labels[row])}
        for row in rows
    ]
