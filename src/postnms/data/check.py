"""A look at the images of a split before they are needed: at their headers, not at their pixels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from postnms.config import Progress, no_progress
from postnms.data.dataset import Dataset, Record
from postnms.data.image_files import MAX_PIXELS, check_image
from postnms.errors import UserError

NAMED = 3
"""Number of files that a message names."""


@dataclass(frozen=True)
class Problem:
    """A kind of problem of some image files."""

    kind: str
    """What is wrong with them."""
    count: int
    """Number of the files."""
    first: tuple[str, ...]
    """The messages of the first :data:`NAMED` files."""

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return f"{self.count} {self.kind} ({'; '.join(self.first)}{more})"


KINDS = {
    "no such image": "missing",
    "expected at most": "too large",
    "px as annotated": "of another size than annotated",
    "cannot be read": "unreadable",
}
"""Kinds of problems by words of the messages of :mod:`postnms.data.image_files`."""


def find_problems(
    records: Sequence[Record], max_pixels: int = MAX_PIXELS, done: Progress = no_progress
) -> tuple[Problem, ...]:
    """Return what is wrong with the image files of some records, by kind.

    A file is missing, cannot be read, has too many pixels or has another size than its annotations
    say. Images that are made in memory are right. ``done`` is called with 1 after every image.
    """
    found: dict[str, list[str]] = {}
    for record in records:
        if record.has_file:
            try:
                check_image(record.path, (record.height, record.width), max_pixels=max_pixels)
            except UserError as error:
                message = str(error)
                kind = next(kind for words, kind in KINDS.items() if words in message)
                found.setdefault(kind, []).append(message)
        done(1)
    return tuple(
        Problem(kind, len(found[kind]), tuple(found[kind][:NAMED]))
        for kind in KINDS.values()
        if kind in found
    )


def check_images(
    splits: Sequence[Dataset], max_pixels: int = MAX_PIXELS, done: Progress = no_progress
) -> None:
    """Raise UserError if an image file of a split is not as its annotations say.

    The message has the number of files of each kind of problem, and names the first of them.
    ``done`` is called with 1 after every image.
    """
    lines = []
    for dataset in splits:
        problems = find_problems(dataset.records, max_pixels, done)
        if problems:
            said = ", ".join(map(str, problems))
            lines.append(f"{dataset.source}: of {len(dataset.records)} images {said}")
    if lines:
        raise UserError("; ".join(lines))


def twice(values: Sequence[object]) -> int:
    """Return how many of the values equal an earlier one.

    Example:
        >>> twice(["a", "b", "a", "a"])
        2
    """
    return sum(count - 1 for count in Counter(values).values())
