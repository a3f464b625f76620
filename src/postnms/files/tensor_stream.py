"""A safetensors file written as a stream: its tensors grow by rows, and memory holds only the rows that are added.

The format (https://github.com/huggingface/safetensors#format) begins with the sizes of all tensors. Till these are
known every tensor lies in a file without a name in the folder of the file to be, which goes with the process whatever
happens; while they are put together, the disk holds everything twice.
"""

import json
import math
import struct
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from postnms.errors import UserError
from postnms.files.atomic import atomic_path

KINDS = {np.dtype("<f4"): "F32", np.dtype("<i4"): "I32", np.dtype("<i8"): "I64"}
"""The types that a stream takes, and safetensors' names of them."""


@dataclass
class _Column:
    file: IO[bytes]
    dtype: np.dtype[Any]
    width: tuple[int, ...]
    """The shape without the rows."""
    rows: int = 0


class TensorStream:
    """Tensors that grow together, to become one file by :meth:`write` before the ``with`` block ends.

    All methods raise UserError that names the file if the operating system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = ExitStack()
        self._columns: dict[str, _Column] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def rows(self, name: str) -> int | None:
        """Rows that a tensor has by now; None before the first."""
        return self._columns[name].rows if name in self._columns else None

    def append(self, parts: Mapping[str, NDArray[Any]]) -> None:
        """Append rows to every tensor. Raises ValueError unless names, types and widths are those of the first call."""
        self._check(parts)
        try:
            for name, part in parts.items():
                if name not in self._columns:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    file = self._files.enter_context(tempfile.TemporaryFile(dir=self._path.parent))  # noqa: SIM115
                    self._columns[name] = _Column(file, part.dtype, part.shape[1:])
                self._columns[name].file.write(part.tobytes())
                self._columns[name].rows += len(part)
        except OSError as error:
            raise UserError(f"{self._path}: could not be written ({error})") from error

    def write(self, metadata: dict[str, str]) -> None:
        """Put the file together. A failure leaves an older file of that name as it was."""
        # Wide numbers first, so that all are aligned.
        columns = dict(
            sorted(self._columns.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
        )
        with atomic_path(self._path) as temporary, temporary.open("wb") as whole:
            whole.write(_header(columns, metadata))
            for column in columns.values():
                column.file.seek(0)
                copyfileobj(column.file, whole)

    def _check(self, parts: Mapping[str, NDArray[Any]]) -> None:
        came = {name: (KINDS[part.dtype], part.shape[1:]) for name, part in parts.items()}
        wanted = {
            name: (KINDS[column.dtype], column.width) for name, column in self._columns.items()
        } or came
        for name in sorted(wanted.keys() | came.keys()):
            if wanted.get(name) != came.get(name):
                expected, got = (_say(tensors.get(name)) for tensors in (wanted, came))
                raise ValueError(
                    f"{name}: expected {expected} as in what was added first, got {got}"
                )


def _say(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return f"{tensor[0]} rows of shape {tensor[1]}" if tensor else "nothing"


def _header(columns: Mapping[str, _Column], metadata: dict[str, str]) -> bytes:
    """The length of the JSON, and the JSON, padded so that the numbers after it are aligned."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, column in columns.items():
        shape = [column.rows, *column.width]
        start, end = end, end + math.prod(shape) * column.dtype.itemsize
        entries[name] = {"dtype": KINDS[column.dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
