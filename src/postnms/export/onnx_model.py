"""An exported ONNX model that detects objects in images, with onnxruntime and without torch.

d: detections.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from postnms.data.image_files import MAX_PIXELS, load_image
from postnms.data.resizing import resize
from postnms.errors import UserError, shown
from postnms.export.metadata import COLUMNS, INPUT, ExportMetadata
from postnms.inference.records import records_of

ENDING = ".onnx"
"""Ending of the files of exported models."""


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

    def to_coco(self, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """Return COCO results: ``image_id``, ``category_id``, ``bbox`` (xywh), ``score``.

        ``category_ids`` are those of the classes, in the order of the labels.
        """
        boxes = self.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        rows = zip(self.labels.tolist(), boxes.round(3).tolist(), self.scores.tolist(), strict=True)
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": box,
                "score": float(f"{score:.9g}"),
            }
            for label, box, score in rows
        ]


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
        """Detect objects in one image: an image of Pillow, or a file.

        Returns:
            The detections of each row, in pixels of the image as it was given.

        Raises:
            UserError: the file cannot be read.
        """
        if not isinstance(image, Image.Image):
            image = load_image(Path(image), max_pixels=MAX_PIXELS)
        resized = resize(image.convert("RGB"), *self.metadata.input_size)
        pixels = np.asarray(resized, np.uint8).transpose(2, 0, 1)[None]
        factors = np.array([image.width / resized.width, image.height / resized.height] * 2)
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
        session = _session(Path(path), threads)
        strings = session.get_modelmeta().custom_metadata_map
        about = ExportMetadata.from_strings(strings, str(path))
        super().__init__(about, lambda pixels: session.run(about.outputs, {INPUT: pixels}))


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
