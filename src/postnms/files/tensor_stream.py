"""Writing a safetensors file as a stream: tensors grow by rows, and memory holds only the new rows.

The format (https://github.com/huggingface/safetensors#format) begins with the sizes of all tensors.
Until the sizes are known, each tensor grows in an unnamed temporary file in the target folder. The
system deletes it when the process ends. :meth:`TensorStream.write` copies the temporary files into
one file, so the disk briefly holds the data twice.
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

KINDS = {
    np.dtype("<f4"): "F32",
    np.dtype("<i4"): "I32",
    np.dtype("<i8"): "I64",
    np.dtype("u1"): "U8",
}
"""Dtypes that a stream accepts, each with its name in a safetensors file."""


@dataclass
class _Column:
    """A tensor that grows by rows in a temporary file."""

    file: IO[bytes]
    dtype: np.dtype[Any]
    width: tuple[int, ...]
    """Shape of one row."""
    rows: int = 0


class TensorStream:
    """Named tensors that grow together by rows and become one safetensors file.

    The stream is used in a ``with`` block. :meth:`write` must be called before the block ends.
    Otherwise no file is written.

    Raises:
        UserError: that names the file, by :meth:`append` and :meth:`write`, if the operating system
            refuses.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from safetensors.numpy import load_file
        >>> from postnms.files.tensor_stream import TensorStream
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "scores.safetensors"
        ...     with TensorStream(path) as stream:
        ...         stream.append({"scores": np.array([1, 2], np.float32)})
        ...         stream.append({"scores": np.array([3], np.float32)})
        ...         stream.write({"unit": "none"})
        ...     load_file(path)["scores"].tolist()
        [1.0, 2.0, 3.0]
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
        """Return the number of rows of a tensor so far, or None if nothing was appended to it."""
        return self._columns[name].rows if name in self._columns else None

    def append(self, parts: Mapping[str, NDArray[Any]]) -> None:
        """Append rows to every tensor.

        The first call decides the names, the dtypes and the shapes of one row.

        Args:
            parts: by name, an array whose first dimension counts the rows. Its dtype is one of
                :data:`KINDS`.

        Raises:
            ValueError: if names, dtypes or shapes of one row differ from those of the first call.
                The stream is not changed.
            KeyError: if a dtype is not in :data:`KINDS`.
            UserError: if the operating system refuses.
        """
        self._check(parts)
        try:
            for name, part in parts.items():
                self._grow(name, part)
        except OSError as error:
            raise UserError(f"{self._path}: could not be written ({error})") from error

    def write(
        self, metadata: dict[str, str], tensors: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Write the file. If that fails, an older file of this name is left as it was.

        Args:
            metadata: texts by name, which are stored in the header of the file.
            tensors: by name, further tensors that are written as they are, each with a dtype in
                :data:`KINDS`.

        Raises:
            UserError: if the operating system refuses.
        """
        with atomic_path(self._path) as temporary, temporary.open("wb") as whole:
            for name, tensor in (tensors or {}).items():
                self._grow(name, tensor)
            # With the widest numbers first, each tensor begins at a multiple of its item size.
            columns = dict(
                sorted(self._columns.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
            )
            whole.write(_header(columns, metadata))
            for column in columns.values():
                column.file.seek(0)
                copyfileobj(column.file, whole)

    def _grow(self, name: str, part: NDArray[Any]) -> None:
        """Append rows to one tensor, which is new or has rows of the same dtype and shape."""
        if name not in self._columns:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unnamed = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115
            file = self._files.enter_context(unnamed)
            self._columns[name] = _Column(file, part.dtype, part.shape[1:])
        self._columns[name].file.write(part.tobytes())
        self._columns[name].rows += len(part)

    def _check(self, parts: Mapping[str, NDArray[Any]]) -> None:
        """Raise ValueError unless names, dtypes and shapes of a row are those of the first rows."""
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
    """Describe a tensor by its safetensors dtype and the shape of a row, for an error message."""
    return f"{tensor[0]} rows of shape {tensor[1]}" if tensor else "nothing"


def _header(columns: Mapping[str, _Column], metadata: dict[str, str]) -> bytes:
    """Return the bytes before the data: the length of the JSON, and the JSON.

    The JSON is padded with spaces to a multiple of 8, so that the data after it are aligned.
    """
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, column in columns.items():
        shape = [column.rows, *column.width]
        start = end
        end = start + math.prod(shape) * column.dtype.itemsize
        entries[name] = {"dtype": KINDS[column.dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
