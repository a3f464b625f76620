"""An exported ONNX model that detects objects in images, with onnxruntime and without torch.

d: detections, n: candidates, k: keys.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from postnms.data.ids import ImageId
from postnms.data.image_files import MAX_PIXELS, load_image
from postnms.data.image_modes import pillow_to_rgb
from postnms.data.resizing import resize
from postnms.errors import UserError, shown
from postnms.export.metadata import (
    CANDIDATE_COLUMNS,
    COLUMNS,
    INPUT,
    KEYS,
    ExportMetadata,
    Part,
)
from postnms.inference.records import coco_results_of, records_of

ENDING = ".onnx"
"""Ending of the files of exported models."""
NMS = Callable[
    [NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], float], NDArray[np.int64]
]
"""An NMS: boxes (n, 4) xyxy, scores (n,), groups (n,) and the threshold of the IoU in, and the rows
(k,) of the candidates that it keeps out. Candidates of different groups do not suppress each other:
a group is a class of an image."""


@dataclass(frozen=True, eq=False)
class ExportedRow:
    """The detections of one row in one image, by falling score."""

    boxes: NDArray[np.float32]
    """(d, 4) xyxy, in pixels of the image as it was given."""
    scores: NDArray[np.float32]
    """(d,) in [0, 1]."""
    labels: NDArray[np.int64]
    """(d,) 0..K-1."""
    class_names: Sequence[str] = field(repr=False)
    """Names of the model's classes, in the order of the labels."""

    def __len__(self) -> int:
        return len(self.scores)

    def over(self, min_score: float) -> "ExportedRow":
        """Return the detections that score at least so much."""
        enough = self.scores >= min_score
        return ExportedRow(
            self.boxes[enough], self.scores[enough], self.labels[enough], self.class_names
        )

    def to_records(self) -> list[dict[str, Any]]:
        """Return a dict for each detection: ``label, name, score, x1, y1, x2, y2``."""
        return records_of(self.boxes, self.scores, self.labels, self.class_names)

    def to_coco(self, image_id: ImageId, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """Return COCO results: ``image_id``, ``category_id``, ``bbox`` (xywh), ``score``.

        ``category_ids`` are those of the classes, in the order of the labels.
        """
        return coco_results_of(self.boxes, self.scores, self.labels, image_id, category_ids)


class ExportedModel:
    """A model that ``postnms export`` has written.

    Args:
        metadata: what it says of itself.
        run: takes images (B, 3, h, w) uint8, and returns the outputs that ``metadata`` names.
    """

    def __init__(
        self, metadata: ExportMetadata, run: Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]]
    ) -> None:
        self.metadata = metadata
        self._run = run

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows that the model gives, the best one last."""
        return self.metadata.rows

    @property
    def names(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return [category.name for category in self.metadata.classes]

    def chosen_row(self, row: str | None) -> str:
        """Return the name of a row of this model. None: the last one.

        Raises UserError if the model has no such row.
        """
        if row is None:
            return self.rows[-1]
        if row not in self.rows:
            left_out = self.metadata.left_out.get(row)
            reason = "" if left_out is None else f": {left_out}"
            raise UserError(
                f"expected one of {', '.join(self.rows)}, got {shown(row)}{reason}", argument="row"
            )
        return row

    def predict(self, image: str | PathLike[str] | Image.Image) -> dict[str, ExportedRow]:
        """Detect objects in one image: an image of Pillow of any mode, or a file.

        A file is turned as its EXIF says. An image of Pillow is taken as it is.

        Returns:
            The detections of each row, in pixels of the image as it was given.

        Raises:
            UserError: the image cannot be read, or is none.
        """
        if isinstance(image, Image.Image):
            rgb = pillow_to_rgb(image, "image")
        elif isinstance(image, str | PathLike):
            rgb = load_image(Path(image), max_pixels=MAX_PIXELS)
        else:
            raise UserError(
                f"expected a path or an image of Pillow, got {type(image).__name__}",
                argument="image",
            )
        resized = resize(rgb, *self.metadata.input_size)
        pixels = np.asarray(resized, np.uint8).transpose(2, 0, 1)[None]
        factors = np.array([rgb.width / resized.width, rgb.height / resized.height] * 2)
        found = self.run(np.ascontiguousarray(pixels))
        return {
            row: ExportedRow(
                columns[0] * factors.astype(np.float32), columns[1], columns[2], self.names
            )
            for row, columns in found.items()
        }

    def run(self, pixels: NDArray[np.uint8]) -> dict[str, tuple[NDArray[Any], ...]]:
        """Return boxes, scores, labels and images of each row for images of one size.

        ``pixels`` (B, 3, h, w) are RGB and of the size that :attr:`metadata` says. Boxes are in
        pixels of these images.
        """
        outputs = self._run(pixels)
        width = len(COLUMNS)
        return {
            row: tuple(outputs[width * number : width * (number + 1)])
            for number, row in enumerate(self.rows)
        }


class OnnxModel(ExportedModel):
    """An ONNX file of ``postnms export`` in onnxruntime.

    Args:
        path: the file.
        threads: number of threads of onnxruntime. None: its own choice, the physical cores.

    Raises:
        UserError: the file is no such model, or onnxruntime is missing.
    """

    def __init__(self, path: str | PathLike[str], *, threads: int | None = None) -> None:
        session, about = _opened(Path(path), threads, "whole")
        super().__init__(about, lambda pixels: session.run(about.outputs, {INPUT: pixels}))


class SplitModel(ExportedModel):
    """The two ONNX files of ``postnms export --around-nms``, and an NMS between them.

    Args:
        candidates: the file of what is before NMS.
        stage: the file of what is after it.
        nms: what chooses among the candidates. It may keep fewer than :func:`plain_nms`, and fill
            up its result with values below 0.
        threads: number of threads of onnxruntime. None: its own choice, the physical cores.

    Raises:
        UserError: a file is no such model, the files are of two exports, or onnxruntime is missing.
    """

    def __init__(
        self,
        candidates: str | PathLike[str],
        stage: str | PathLike[str],
        *,
        nms: NMS | None = None,
        threads: int | None = None,
    ) -> None:
        first, about = _opened(Path(candidates), threads, "candidates")
        second, other = _opened(Path(stage), threads, "stage")
        if other != dataclasses.replace(about, part="stage"):
            raise UserError(f"{stage}: expected the file that belongs to {candidates}")
        super().__init__(about, self._through_both)
        self._first, self._second = first, second
        self._nms = plain_nms if nms is None else nms

    def _through_both(self, pixels: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        names = [output.name for output in self._first.get_outputs()]
        found = dict(zip(names, self._first.run(names, {INPUT: pixels}), strict=True))
        boxes, scores, labels, image = (found[name] for name in CANDIDATE_COLUMNS)
        groups = image * len(self.metadata.classes) + labels
        keys = self._nms(boxes, scores, groups, self.metadata.thresholds["nms_iou"])
        found[KEYS] = np.asarray(keys, np.int64)
        return self._second.run(self.metadata.outputs, found)


def plain_nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    groups: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.int64]:
    """Return the rows (k,) that greedy NMS keeps, in the order of ``postnms.cluster_nms``.

    The arguments are those of :data:`NMS`. It is the plain loop of numpy, to try a model with.

    Example:
        >>> import numpy as np
        >>> from postnms.export.onnx_model import plain_nms
        >>> boxes = np.float32([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10]])
        >>> plain_nms(boxes, np.float32([0.7, 0.9, 0.8]), np.array([0, 0, 1]), 0.5)
        array([1, 2])
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    free = np.ones(len(scores), bool)
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        if not free[row]:
            continue
        kept.append(row)
        corners = np.maximum(boxes[:, :2], boxes[row, :2]), np.minimum(boxes[:, 2:], boxes[row, 2:])
        shared = (corners[1] - corners[0]).clip(min=0).prod(axis=1)
        union = areas + areas[row] - shared
        iou = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
        free &= (iou <= np.float32(iou_threshold)) | (groups != groups[row])
    return np.array(kept, np.int64)


def _opened(path: Path, threads: int | None, part: Part) -> tuple[Any, ExportMetadata]:
    """Return a session of onnxruntime and the metadata of a file with a part of the path.

    Raises UserError if it is of another kind.
    """
    session = _session(path, threads)
    about = ExportMetadata.from_strings(session.get_modelmeta().custom_metadata_map, str(path))
    if about.part != part:
        reader = "OnnxModel" if about.part == "whole" else "SplitModel"
        raise UserError(
            f"{path}: expected a file with the part {part!r}, got {about.part!r}; {reader} reads it"
        )
    return session, about


def _session(path: Path, threads: int | None) -> Any:
    """Return a session of onnxruntime. Raises UserError if the file is no ONNX model."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{path}: an exported model needs onnxruntime: pip install 'postnms[export]'"
        ) from error
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # Its errors have no common class.
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{path}: onnxruntime does not take it: {lines[0][:300]}") from error
