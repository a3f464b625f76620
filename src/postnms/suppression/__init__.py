"""Every rival of the stage: candidates in, detections out."""

from postnms.suppression.protocol import Kept, Ranked, Suppressor
from postnms.suppression.registry import SUPPRESSORS, Choice, choose, get_suppressor

__all__ = ["SUPPRESSORS", "Choice", "Kept", "Ranked", "Suppressor", "choose", "get_suppressor"]
