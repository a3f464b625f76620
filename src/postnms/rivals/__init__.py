"""Learned rivals of the stage that say something of every candidate: IoU-Net and a density head."""

from postnms.rivals.attached import CandidateHeads
from postnms.rivals.config import DensityHeadConfig, HeadsConfig, IoUHeadConfig

__all__ = ["CandidateHeads", "DensityHeadConfig", "HeadsConfig", "IoUHeadConfig"]
