"""Suppressors: candidates in, detections out."""

from postnms.suppression.named import SUPPRESSORS, get_suppressor
from postnms.suppression.suppressor import Suppressor

__all__ = ["SUPPRESSORS", "Suppressor", "get_suppressor"]
