"""Reading a JSON object with long lists of objects, of which a few fields are used.

The annotations of COCO are half a gigabyte of text, most of it polygons. The module ``json`` makes
Python objects of all of it, which take 8 GiB. Here the file is mapped into memory, msgspec finds
where the entries of the long lists begin and end, and an entry is decoded when its turn comes,
without the fields that nobody asked for.

What is malformed, and what its message says, is as for :mod:`postnms.files.json_files`: a text that
msgspec refuses goes to the module ``json``, which reads more (``NaN``) and has its own messages.
Only the text of a field that is not asked for may be invalid UTF-8.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from postnms.errors import UserError
from postnms.files.json_files import LIMITS, JsonLimits, parse_json, read_json

_MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""
_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises for a text that it does not read."""


@dataclass(frozen=True)
class LongList:
    """A list of a JSON file whose entries are decoded when they are asked for."""

    entries: list[msgspec.Raw]
    """The text of each entry."""
    fields: tuple[str, ...]
    """The fields that are read. All others are left out."""
    name: str
    """What messages call the list."""

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Any]:
        """Yield the entries: dicts with all ``fields``, None for one that is missing.

        An entry that is no object is yielded as it is. Raises UserError for a malformed one.
        """
        fields: list[Any] = [(field, Any, None) for field in self.fields]
        decode = msgspec.json.Decoder(msgspec.defstruct("Entry", fields)).decode
        for index, raw in enumerate(self.entries):
            try:
                yield msgspec.structs.asdict(decode(raw))
            except _REFUSED:
                yield self._other(raw, index)

    def _other(self, raw: msgspec.Raw, index: int) -> Any:
        value = parse_json(bytes(raw), f"{self.name}[{index}]")
        return _chosen(value, self.fields)


def read_long_lists(
    path: Path, lists: Mapping[str, Sequence[str]], limits: JsonLimits = LIMITS
) -> Any:
    """Return the content of a JSON file, with little memory for some long lists in it.

    Args:
        path: the file, which must not change while the lists are in use.
        lists: names of lists of objects at the top of the file, and the fields of their entries.
        limits: the largest size of the file.

    Returns:
        The content. If it is an object, those of ``lists`` that are lists have a length and give
        their entries as :class:`LongList` does. All other values are as the module ``json`` reads
        them.

    Raises:
        UserError: as :func:`postnms.files.json_files.read_json` does.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.json"
        ...     _ = path.write_text('{"year": 2017, "boxes": [{"id": 1, "polygon": [3, 4, 5]}]}')
        ...     content = read_long_lists(path, {"boxes": ["id"]})
        >>> content["year"], list(content["boxes"])
        (2017, [{'id': 1}])
    """
    parts = _parts(path, limits)
    if parts is None:
        content = read_json(path, limits)
        if not isinstance(content, dict):
            return content
        short = {name: _shortened(content[name], lists[name]) for name in lists if name in content}
        return content | short
    return {name: _value(raw, lists.get(name), name, path.name) for name, raw in parts.items()}


def _parts(path: Path, limits: JsonLimits) -> dict[str, msgspec.Raw] | None:
    """Return the text of each value of the object in a file. None: msgspec does not read it."""
    try:
        size = path.stat().st_size
        if not 0 < size <= limits.file:
            return None
        with path.open("rb") as file:
            text = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise UserError(f"{path}: could not be read ({error})") from error
    if text[: len(_MARK)] == _MARK:
        text = text[len(_MARK) :]
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except _REFUSED:
        return None


def _value(raw: msgspec.Raw, fields: Sequence[str] | None, name: str, file: str) -> Any:
    if fields is not None:
        try:
            entries = msgspec.json.decode(raw, type=list[msgspec.Raw])
        except _REFUSED:
            return parse_json(bytes(raw), f"{file}: {name}")
        return LongList(entries, tuple(fields), f"{file}: {name}")
    return parse_json(bytes(raw), f"{file}: {name}")


def _shortened(value: Any, fields: Sequence[str]) -> Any:
    """Return a list that ``json`` has read with the entries that :class:`LongList` gives."""
    return [_chosen(entry, fields) for entry in value] if isinstance(value, list) else value


def _chosen(entry: Any, fields: Sequence[str]) -> Any:
    return {field: entry.get(field) for field in fields} if isinstance(entry, dict) else entry
