"""What an exported model says of itself: rows, classes, preprocessing, thresholds, provenance.

It lies in the file of the model. Nothing here needs torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from postnms.data.dataset import Category
from postnms.data.resizing import InputSize
from postnms.errors import UserError

FORMAT = 1
"""Version of the form of the metadata."""
PREFIX = "postnms."
"""What the names of the metadata begin with in an ONNX file. Each value is JSON."""
COLUMNS = ("boxes", "scores", "labels", "image")
"""What a model gives of each row."""
INPUT = "images"
"""Name of the input."""
CANDIDATE_COLUMNS = ("boxes", "scores", "labels", "image")
"""What the first of two files around NMS gives of the candidates."""
SIZES = "sizes"
"""Its output (2, 2) int64: (height, width) of the images in the network's input, and as given."""
KEYS = "keys"
"""The input of the second file that is no output of the first: the rows that NMS has kept."""

Part = Literal["whole", "candidates", "stage"]
"""Which part of the path a file has: all of it, what is before NMS, or what is after it."""


@dataclass(frozen=True)
class ExportMetadata:
    """The facts that a program needs to use an exported model, and where it comes from."""

    rows: tuple[str, ...]
    """Rows that the model gives, the best one last. The outputs of a row are named ``ROW_boxes``
    (d, 4) xyxy in pixels of the input, ``ROW_scores`` (d,), ``ROW_labels`` (d,) and ``ROW_image``
    (d,), by image, then by falling score."""
    classes: tuple[Category, ...]
    """In the order of the labels."""
    input_size: InputSize
    """(min_size, max_size) in pixels, to which images are resized before the model, bilinear and
    anti-aliased, as :func:`postnms.data.resizing.resize` does."""
    preprocessing: Mapping[str, Any]
    """The form of the input, and what the model itself does with it."""
    thresholds: Mapping[str, Any]
    """Least score of a candidate, IoU of NMS, limit of detections, and the score with the best F1
    on the val split of each row that has one."""
    dynamic: tuple[str, ...]
    """The axes of the input that may have any length: ``batch``, ``height``, ``width``."""
    left_out: Mapping[str, str]
    """Rows of the run that the model does not give, and why."""
    provenance: Mapping[str, Any]
    """Command, versions, run and weights."""
    part: Part = "whole"
    """Which part of the path the file has."""

    def to_strings(self) -> dict[str, str]:
        """Return the metadata as names and texts, as an ONNX file holds them."""
        content = {"format": FORMAT, **asdict(self)}
        return {PREFIX + name: json.dumps(value) for name, value in content.items()}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], source: str) -> Self:
        """Read what :meth:`to_strings` gives. Raises UserError that begins with ``source``."""
        if PREFIX + "format" not in strings:
            raise UserError(f"{source}: expected a model of 'postnms export', got another one")
        try:
            content = {
                name.removeprefix(PREFIX): json.loads(text)
                for name, text in strings.items()
                if name.startswith(PREFIX)
            }
            if content.pop("format") != FORMAT:
                raise UserError(
                    f"{source}: it was exported by another version of postnms; export it again"
                )
            content["rows"] = tuple(content["rows"])
            content["classes"] = tuple(Category(**entry) for entry in content["classes"])
            shortest, longest = content["input_size"]
            content["input_size"] = (int(shortest), int(longest))
            content["dynamic"] = tuple(content["dynamic"])
            content.setdefault("part", "whole")  # Older files have no other part.
            return cls(**{field.name: content[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{source}: its metadata are damaged: {error!r}") from error

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in their order."""
        return [f"{row}_{column}" for row in self.rows for column in COLUMNS]
