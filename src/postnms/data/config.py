"""Where the images and annotations of a run lie, and how they are read."""

from typing import Annotated

from pydantic import Field

from postnms.config import Config
from postnms.data.scenes.generator import ScenesConfig
from postnms.data.transforms import AugmentationConfig


class DataConfig(Config):
    """Where images and annotations lie under the data folder, and how they are read."""

    train_annotations: str = "instances_train.json"
    train_images: str = "images"
    val_annotations: str = "instances_val.json"
    val_images: str = "images"
    scenes: ScenesConfig | None = None
    """The built-in data set, generated in memory when no data folder is given."""
    augmentation: AugmentationConfig = AugmentationConfig()
    cache: bool = False
    """Keep decoded, resized images in memory: for data sets that fit."""
    workers: Annotated[int, Field(ge=0)] = 4
