"""Columns of ids and of names, which take little more memory than their letters and digits."""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

ImageId = int | str
"""The id of an image as the user's file has it. 1 and "1" are different ids."""


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Texts that lie one behind the other in one array of bytes."""

    letters: NDArray[np.uint8]
    """The texts in UTF-8."""
    ends: NDArray[np.int64]
    """0, and where each text ends in ``letters``."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Join some texts. They may be such as UTF-8 does not allow, with half a surrogate pair."""
        joined = bytearray()
        ends = array("q", [0])
        for text in texts:
            joined += text.encode("utf-8", "surrogatepass")
            ends.append(len(joined))
        return cls(np.frombuffer(bytes(joined), np.uint8), np.array(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            return [self[row] for row in chosen]
        letters = self.letters[self.ends[chosen] : self.ends[chosen + 1]]
        return letters.tobytes().decode("utf-8", "surrogatepass")

    def take(self, rows: NDArray[np.int64]) -> "Texts":
        """Return the texts of some rows."""
        return Texts.of(self[row] for row in rows.tolist())


@dataclass(frozen=True, eq=False)
class Ids(Sequence[Any]):
    """Ids of images or of annotations: integers of any size, strings, and None where one lacks."""

    values: NDArray[np.int64] | Texts
    """The ids as numbers of 64 bits, or as JSON if not all of them are such numbers."""

    @classmethod
    def of(cls, ids: Iterable[ImageId | None]) -> "Ids":
        """Return some ids as a column."""
        given = list(ids)
        if all(type(value) is int and -(2**63) <= value < 2**63 for value in given):
            return cls(np.array(given, np.int64))
        return cls(Texts.of(map(json.dumps, given)))

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        found = self.values[index]
        if isinstance(found, np.ndarray | np.integer):
            return found.tolist()
        return json.loads(found) if isinstance(found, str) else [json.loads(text) for text in found]

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])

    def take(self, rows: NDArray[np.int64]) -> "Ids":
        """Return the ids of some rows."""
        values = self.values
        return Ids(values.take(rows) if isinstance(values, Texts) else values[rows])
