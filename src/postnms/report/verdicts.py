"""The sentences that a report begins with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from postnms.report.subjects import Subject, title_of
from postnms.report.tables import TableRow, best_of
from postnms.structures import NMS_ROW


@dataclass(frozen=True)
class Verdict:
    """What is to be known of one detector before anything else."""

    kind: str
    """``better``, ``worse`` or ``unsure``."""
    sentence: str
    details: tuple[str, ...]


def signed(value: float | None, digits: int = 2) -> str:
    """Return a number with its sign, with the true minus sign; ``-`` for None.

    Example:
        >>> signed(-1.234), signed(0.5), signed(None)
        ('−1.23', '+0.50', '-')
    """
    return "-" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def verdict_of(subject: Subject | None, rows: Sequence[TableRow], name: str) -> Verdict:
    """Return the verdict on one detector. ``name`` is what the page calls it, maybe nothing."""
    before = next((row for row in rows if row.kind == "baseline"), None)
    after = None
    if subject is not None and subject.after is not None:
        after = next((row for row in rows if row.name == title_of(subject.after or "")), None)
    elif subject is None:
        after = next((row for row in rows if row.kind == "stage"), best_of(rows))
    details = [] if subject is None else _by_images(subject)
    best = best_of(rows)
    if best is not None and best not in (before, after):
        details.append(
            f"The highest AP of all rows is {best.figures['AP']:.1f}, of {best.name} "
            f"({signed(best.gain)} over NMS)."
        )
    start = f"{name}: " if name else ""
    if before is None or before.figures["AP"] is None:
        return Verdict("unsure", f"{start}there are no objects, so there is no AP.", tuple(details))
    if after is None or after is before or after.gain is None:
        said = f"{start}NMS has an AP of {before.figures['AP']:.1f}, and there is no stage."
        return Verdict("unsure", said, tuple(details))
    return Verdict(after.verdict, start + _compared(before, after), tuple(details))


def _compared(before: TableRow, after: TableRow) -> str:
    """Return what the gain of a row over plain NMS is, and whether its sign is sure."""
    between = f"from {before.figures['AP']:.1f} to {after.figures['AP']:.1f}"
    if after.low is None:
        return f"{after.name} changes the AP of NMS by {signed(after.gain)}, {between}."
    interval = f"95 % interval {signed(after.low)} to {signed(after.high)}"
    if after.verdict == "better":
        return f"{after.name} is better than NMS: {signed(after.gain)} AP ({interval}), {between}."
    if after.verdict == "worse":
        return f"{after.name} is worse than NMS: {signed(after.gain)} AP ({interval}), {between}."
    return (
        f"These images cannot tell whether {after.name} is better than NMS: "
        f"{signed(after.gain)} AP ({interval}), {between}."
    )


def _by_images(subject: Subject) -> list[str]:
    """Return in how many images the row is better and worse than plain NMS."""
    if subject.after is None or NMS_ROW not in subject.rows:
        return []
    gains = subject.rows[subject.after].images.ap - subject.rows[NMS_ROW].images.ap
    known = gains[~np.isnan(gains)]
    better, worse = int((known > 0).sum()), int((known < 0).sum())
    equal = len(known) - better - worse
    return [
        f"Image by image, {title_of(subject.after)} is better in {better}, worse in {worse} and "
        f"equal in {equal} of {len(known)} images with objects."
    ]
