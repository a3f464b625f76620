"""Data sets in, batches out."""

from postnms.data.config import DataConfig
from postnms.data.dataset import Category, Dataset, ImageId, Record, Truth
from postnms.data.formats.coco import open_annotations, read_coco, read_truth
from postnms.data.loader import Batch, DetectionData
from postnms.data.scenes.generator import ScenesConfig, scenes_dataset
from postnms.data.splits import Splits, open_splits, open_val
from postnms.data.transforms import AugmentationConfig

__all__ = [
    "AugmentationConfig",
    "Batch",
    "Category",
    "DataConfig",
    "Dataset",
    "DetectionData",
    "ImageId",
    "Record",
    "ScenesConfig",
    "Splits",
    "Truth",
    "open_annotations",
    "open_splits",
    "open_val",
    "read_coco",
    "read_truth",
    "scenes_dataset",
]
