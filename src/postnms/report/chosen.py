"""The images that a report shows: where the stage loses most, and where it wins most.

B: images.
"""

from dataclasses import dataclass

import numpy as np

from postnms.evaluation.image_figures import ImageFigures


@dataclass(frozen=True)
class Chosen:
    """Positions of images, see :func:`postnms.evaluation.numbering.image_positions`."""

    losses: tuple[int, ...]
    """The largest loss first."""
    wins: tuple[int, ...]
    """The largest win first."""
    differ: bool = True
    """Whether the AP of these images differs. Otherwise they are those with the lowest AP."""

    @property
    def all(self) -> tuple[int, ...]:
        """All positions, the losses first."""
        return self.losses + self.wins


def choose(before: ImageFigures, after: ImageFigures | None, most: int) -> Chosen:
    """Return at most ``most`` images: half of them losses, half of them wins.

    The difference of the AP of an image decides. Of equal images the one with more objects comes
    first, then the one that is first in the truth. Without ``after``, and if no image differs, the
    images with the lowest AP are taken in place of losses, and there are no wins.
    """
    ap = before.ap if after is None else after.ap - before.ap
    known = np.flatnonzero(~np.isnan(ap))
    if after is not None and not ap[known].any():
        return choose(before, None, most)
    order = known[np.lexsort((known, -before.objects[known], ap[known]))]
    if after is None:
        return Chosen(tuple(order[:most].tolist()), (), differ=False)
    falling = known[np.lexsort((known, -before.objects[known], -ap[known]))]
    losses = [row for row in order.tolist() if ap[row] < 0]
    wins = [row for row in falling.tolist() if ap[row] > 0]
    half = most // 2
    # Where one side has too few images, the other one takes their places.
    count = max(most - half, most - len(wins))
    losses = losses[:count]
    return Chosen(tuple(losses), tuple(wins[: most - len(losses)]))
