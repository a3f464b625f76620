"""The one object to predict with: a detector, its classes, and how images are prepared for it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image

from postnms.config import Progress, no_progress
from postnms.data.dataset import Category
from postnms.data.image_files import MAX_PIXELS
from postnms.data.resizing import InputSize
from postnms.detectors import Detector
from postnms.distributed.processes import chosen_device
from postnms.errors import UserError, shown
from postnms.evaluation.results import BestF1
from postnms.inference.looking import Look, look_at
from postnms.inference.tiles import Tiling
from postnms.prediction.inputs import ImageInput, Source, sources_of
from postnms.prediction.min_scores import AUTO, MinScoreInput, resolve_min_score
from postnms.prediction.prediction import Prediction
from postnms.prediction.pretrained import fetch_pretrained, write_pretrained
from postnms.recipes import Recipe
from postnms.runs.folder import RunFolder, read_categories, read_recipe
from postnms.runs.loading import load_detector
from postnms.runs.thresholds import read_best_f1
from postnms.structures import Detections
from postnms.suppression.protocol import Suppressor


class Model:
    """A trained detector that takes images of any kind.

    It is in evaluation mode from the time it is made, and :meth:`predict` changes nothing in it. So
    several threads may use one model at once.

    Args:
        detector: the detector, which is put into evaluation mode.
        classes: the classes in the order of the labels, or their names.
        input_size: (shortest, longest side) in pixels to which images are resized before the
            detector. None: the detector gets them as they are, and resizes them itself.
        recipe: how the detector was made, which :meth:`save_pretrained` writes.

    Raises:
        UserError: there are not as many classes as the detector has.

    Example:
        >>> import numpy as np
        >>> from postnms import FasterRCNNConfig, Model, build_detector
        >>> detector = build_detector(FasterRCNNConfig(min_size=64, max_size=64), None, 2)
        >>> model = Model(detector, ["cat", "dog"])
        >>> [found] = model.predict(np.zeros((48, 64, 3), np.uint8))
        >>> found.image_size, found.row
        ((48, 64), 'nms')
    """

    def __init__(
        self,
        detector: Detector,
        classes: Sequence[Category] | Sequence[str],
        *,
        input_size: InputSize | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        categories = tuple(
            entry if isinstance(entry, Category) else Category(label, entry)
            for label, entry in enumerate(classes)
        )
        if len(categories) != detector.network.num_classes:
            raise UserError(
                f"expected the names of {detector.network.num_classes} classes, "
                f"got {len(categories)}",
                argument="classes",
            )
        self.detector = detector.eval()
        self.categories = categories
        self.input_size = input_size
        self.recipe = recipe
        self._folder: RunFolder | None = None

    @cached_property
    def best_f1(self) -> Mapping[str, BestF1 | None]:
        """The score threshold with the best F1 on the val split of the run, by row.

        It is read when it is first asked for. It is empty for a model without a run, else see
        :func:`postnms.runs.thresholds.read_best_f1`.
        """
        return {} if self._folder is None else read_best_f1(self._folder)

    @property
    def names(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return [category.name for category in self.categories]

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows that a prediction may be, the best one last."""
        return self.detector.row_names

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        return next(self.detector.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Move the model to another device and return it. No other thread may use it meanwhile."""
        self.detector.to(device)
        return self

    def predict(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        row: str | None = None,
        min_score: MinScoreInput = 0.0,
        batch_size: int = 8,
        tile: int | None = None,
        overlap: float = 0.2,
        suppressor: str | Suppressor = "nms",
        class_agnostic: float | None = None,
        max_pixels: int = MAX_PIXELS,
        done: Progress = no_progress,
    ) -> list[Prediction]:
        """Detect objects in images.

        Args:
            images: a path, a folder, a pattern such as ``"images/**/*.jpg"``, an image of Pillow,
                an array (H, W, 3) or (H, W), a tensor (3, H, W), or a list of any of these mixed.
                Arrays and tensors are RGB, uint8 or float in [0, 1].
            row: which result of the detector to give, one of :attr:`rows`. None: the last one,
                which is that of the stage if there is a stage.
            min_score: detections that score less are left out. ``"auto"``: the score of the row
                with the best F1 on the val split, see :attr:`best_f1`.
            batch_size: largest number of images, or of tiles, in one forward pass. It does not
                change the result.
            tile: side in pixels of square tiles in which larger images are looked at, so that small
                objects are found. None: each image is looked at as a whole.
            overlap: least share of its side that a tile has in common with the next one. Choose it
                so that most objects are smaller than ``tile * overlap`` pixels.
            suppressor: what joins the boxes that several tiles see, by ``NAME`` or
                ``NAME:FIELD=VALUE``. There is no limit of detections unless it sets one.
            class_agnostic: of two boxes that overlap by an IoU of more than this, in [0, 1], only
                the one with the better score is given, whatever their classes. So an object has
                one class. None: each class is on its own.
            max_pixels: a file with more pixels is refused.
            done: called with the number of finished images.

        Returns:
            A prediction for each image, in their order.

        Raises:
            UserError: an image cannot be read or is none, or an argument has a wrong value.

        Note that ``overlap`` and ``suppressor`` have no effect without ``tile``.
        """
        sources = sources_of(images)
        tiling = None if tile is None else Tiling(tile, overlap, suppressor)
        found = self.stream(
            sources,
            Look(self.input_size, tiling, class_agnostic),
            row=row,
            min_score=min_score,
            batch_size=batch_size,
            max_pixels=max_pixels,
        )
        predictions = []
        for prediction in found:
            predictions.append(prediction)
            done(1)
        return predictions

    def stream(
        self,
        sources: Sequence[Source],
        look: Look,
        *,
        row: str | None = None,
        min_score: MinScoreInput = 0.0,
        batch_size: int = 8,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[Prediction]:
        """Yield the prediction of each image, see :meth:`predict`. One batch is read at a time.

        ``look`` says how images are resized and cut into tiles, and what stays of the detections.
        """
        row = self.chosen_row(row)
        least = self.chosen_min_score(min_score, row)
        if type(batch_size) is not int or batch_size < 1:
            raise UserError(f"expected at least 1, got {shown(batch_size)}", argument="batch_size")
        for start in range(0, len(sources), batch_size):
            some = sources[start : start + batch_size]
            pictures = [source.read(max_pixels) for source in some]
            if self.detector.training:
                raise UserError("model: the detector was put into training mode; call eval() on it")
            every = look_at(self.detector, pictures, look, batch_size)
            for source, image, rows in zip(some, pictures, every, strict=True):
                yield self._prediction(source, image, rows[row], row, least)

    def chosen_row(self, row: str | None) -> str:
        """Return the name of a row of this model. None: the last one.

        Raises UserError if the model has no such row.
        """
        if row is None:
            return self.rows[-1]
        if row not in self.rows:
            raise UserError(
                f"expected one of {', '.join(self.rows)}, got {shown(row)}", argument="row"
            )
        return row

    def chosen_min_score(self, min_score: MinScoreInput, row: str) -> float:
        """Return a least score as a number: for ``"auto"`` that with the best F1 of a row.

        Raises UserError if there is none, or if the least score is another text.
        """
        folder = None if self._folder is None else self._folder.root
        best_f1 = self.best_f1 if min_score == AUTO else {}
        return resolve_min_score(min_score, row, best_f1, folder)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write recipe, classes and weights, so that ``load`` and ``from_pretrained`` read them.

        The folder has the form of a run folder: ``recipe.json``, ``labels.json``,
        ``weights.safetensors``, and ``metrics.json`` with :attr:`best_f1` alone. It can be uploaded
        to the Hugging Face hub as it is.

        Args:
            folder: a new or an empty folder, or one that this method has written, whose files are
                replaced.

        Raises:
            UserError: the folder holds other files, or the model has no recipe.
        """
        write_pretrained(Path(folder), self.detector, self.categories, self.recipe, self.best_f1)

    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str],
        *,
        device: torch.device | str | None = None,
        revision: str | None = None,
        **download: Any,
    ) -> Self:
        """Return the model of a folder, or of a repository of the Hugging Face hub.

        Args:
            name: a folder that :meth:`save_pretrained` or a training has written, or the name of a
                repository, ``owner/name``. A folder of that name comes first.
            device: where the model computes. None: the GPU if there is one.
            revision: branch, tag or commit of the repository.
            download: further options of ``huggingface_hub.snapshot_download``, such as ``token``.

        Raises:
            UserError: there is neither such a folder nor such a repository, a file in it is not as
                it must be, or the machine has no such device.
            ImportError: the name is that of a repository, and ``huggingface_hub`` is not installed.
        """
        folder = RunFolder(fetch_pretrained(name, revision, download))
        recipe = read_recipe(folder)
        detector = load_detector(folder, recipe, chosen_device(device))
        categories = read_categories(folder)
        size = recipe.detector.input_size
        model = cls(detector, categories, input_size=size, recipe=recipe)
        model._folder = folder
        return model

    def _prediction(
        self,
        source: Source,
        image: Image.Image,
        detections: Detections,
        row: str,
        min_score: float,
    ) -> Prediction:
        enough = detections.scores >= min_score
        labels = detections.labels[enough].numpy()
        names = self.names
        return Prediction(
            boxes=detections.boxes[enough].numpy(),
            scores=detections.scores[enough].numpy(),
            labels=labels,
            names=[names[label] for label in labels.tolist()],
            image_size=(image.height, image.width),
            path=source.path,
            row=row,
            category_ids=[category.id for category in self.categories],
            class_names=names,
            source=source.image,
        )


def load(run: str | PathLike[str], *, device: torch.device | str | None = None) -> Model:
    """Return the model of a run that ``train`` has made, or of a folder of ``save_pretrained``.

    It has the final weights of the run, or those of the last checkpoint while the run lasts.

    Args:
        run: the folder.
        device: where the model computes. None: the GPU if there is one.

    Raises:
        UserError: the folder is no run, or a file in it is not as it must be.
    """
    if not Path(run).is_dir():
        raise UserError(f"{run}: no such folder; Model.from_pretrained reads repositories")
    return Model.from_pretrained(run, device=device)
