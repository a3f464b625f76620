"""Every rival of the stage: candidates in, detections out."""

from postnms.suppression.arrays import ALIASES, Suppressed, fuse, suppress
from postnms.suppression.protocol import Kept, Ranked, Suppressor
from postnms.suppression.registry import SUPPRESSORS, Choice, choose, get_suppressor

__all__ = [
    "ALIASES",
    "SUPPRESSORS",
    "Choice",
    "Kept",
    "Ranked",
    "Suppressed",
    "Suppressor",
    "choose",
    "fuse",
    "get_suppressor",
    "suppress",
]
