"""Rows of comparisons of speed, made by hand."""

from postnms.speed.clustering import Comparison
from postnms.speed.timing import Timing


def row(boxes, groups=1, threads=1, **times):
    return Comparison(
        boxes, groups, threads, {name: Timing(spent, 7) for name, spent in times.items()}
    )
