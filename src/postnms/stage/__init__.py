"""The paper's trainable stage after NMS."""

from postnms.stage.config import StageConfig
from postnms.stage.stage import PostNMSStage

__all__ = ["PostNMSStage", "StageConfig"]
