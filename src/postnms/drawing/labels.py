"""Places for labels, so that none covers another one.

Lengths are in pixels, y goes downwards.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Rect:
    """A rectangle that a label, or something that must stay visible, takes."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Rect") -> bool:
        """Return whether the two share an area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: "Rect") -> bool:
        """Return whether another one lies inside, its edges included."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


def free_place(spots: Iterable[Rect], bounds: Rect, taken: list[Rect]) -> Rect | None:
    """Return the first spot that lies in the bounds and meets nothing, and add it to ``taken``.

    None: no spot is free.

    Example:
        >>> taken = [Rect(0, 0, 10, 10)]
        >>> spots = [Rect(5, 5, 15, 15), Rect(95, 0, 105, 10), Rect(10, 0, 20, 10)]
        >>> free_place(spots, Rect(0, 0, 100, 100), taken)
        Rect(left=10, top=0, right=20, bottom=10)
        >>> len(taken)
        2
    """
    for spot in spots:
        if bounds.holds(spot) and not any(spot.meets(other) for other in taken):
            taken.append(spot)
            return spot
    return None


def spots_around(x: float, y: float, width: float, height: float) -> Iterator[Rect]:
    """Yield places for a label of a point, the nearest first: beside it, above and below."""
    for distance in range(8, 120, 6):
        shift = max(distance - 14, 0)
        left, right = x - distance - width, x + distance
        middles = (
            (right, y - shift),
            (right, y + shift),
            (left, y - shift),
            (left, y + shift),
            (x - width / 2, y - distance - 4),
            (x - width / 2, y + distance + 4),
        )
        for start, middle in middles:
            yield Rect(start, middle - height / 2, start + width, middle + height / 2)


def spots_of_box(
    box: tuple[float, float, float, float], width: float, height: float
) -> Iterator[Rect]:
    """Yield places for the label of a box: over its top edge, under its bottom edge, then inside.

    Along each edge it begins at the left corner, and goes on in steps to the right one.
    """
    x1, y1, x2, y2 = box
    lefts = [x1, x2 - width, (x1 + x2 - width) / 2]
    for top in (y1 - height, y2, y1, y2 - height, y1 - 2 * height, y2 + height):
        for left in lefts:
            yield Rect(left, top, left + width, top + height)
