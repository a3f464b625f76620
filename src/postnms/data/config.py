"""Settings of the data of a run: where images and annotations lie, and how they are read."""

from typing import Annotated

from pydantic import Field

from postnms.config import Config, Positive
from postnms.data.image_files import MAX_PIXELS
from postnms.data.scenes.generator import ScenesConfig
from postnms.data.transforms import AugmentationConfig


class DataConfig(Config):
    """Where images and annotations lie under the data folder, and how they are read.

    The data folder itself is not a setting. It is an argument of the functions in
    :mod:`postnms.data.splits`.
    """

    train_annotations: str | None = None
    """Path of the COCO annotation file of the training split, relative to the data folder.

    None: the files are found by the layout of the folder (:mod:`postnms.data.layouts`).
    """
    train_images: str | None = None
    """Path of the folder with the images of the training split, relative to the data folder.

    It goes with ``train_annotations``. If one of the two is given and the other is None, the other
    is ``instances_train.json`` or ``images``.
    """
    val_annotations: str | None = None
    """Path of the COCO annotation file of the validation split. None: as for the training split."""
    val_images: str | None = None
    """Path of the folder with the images of the validation split. None: as for training."""
    images_without_objects: bool = True
    """Whether training images without objects are trained on, as images of background alone. An
    image counts as without objects if all that it has are crowd regions and boxes that are too
    small to train on. Other splits keep all their images."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images that are set aside as the validation split, in (0, 1).

    It is for data without a validation split, and is refused for others. The recipe's seed and the
    file name of an image alone decide on which side the image is. None: nothing is set aside.
    """
    tuning_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images that are set aside as the split ``tuning``, in (0, 1).

    Nothing is trained on it, so settings can be chosen there and not on the validation split:
    ``postnms dump RUN --split tuning``, then ``postnms tune-fusion``. None: nothing is set aside.
    """
    scenes: ScenesConfig | None = None
    """Settings of the built-in data set, which is generated in memory if no data folder is given.

    None: the run needs a data folder.
    """
    augmentation: AugmentationConfig = AugmentationConfig()
    """Random changes of the training images. Validation images are never augmented."""
    cache: bool = False
    """True: keep decoded and resized images in memory, for data sets that fit into it.

    Every worker process keeps its own copy.
    """
    max_pixels: Positive = MAX_PIXELS
    """Largest number of pixels of an image. A file with more is refused before it is decoded."""
    workers: Annotated[int, Field(ge=0)] = 4
    """Number of processes that read images ahead in training, evaluation, dumps and predictions, at
    least 0. 0: the process that needs them reads them.

    With ``cache``, and for a few images, evaluation, dumps and predictions do without them."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        return frozenset({"augmentation", "images_without_objects"})
