"""Suppressors: candidates in, detections out."""

from postnms.suppression.protocol import Suppressor
from postnms.suppression.registry import SUPPRESSORS, get_suppressor

__all__ = ["SUPPRESSORS", "Suppressor", "get_suppressor"]
