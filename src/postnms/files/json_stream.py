"""Reading a JSON list of any length entry by entry.

Memory holds one entry and the text around it, whatever the length of the list.

The module ``json`` can only read a complete text. Here the text is read in pieces, and the decoder
of ``json`` is called once for each entry. A piece usually ends inside an entry. The decoder then
reports a mistake or returns half a number, and the entry is decoded again when more text is read.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from postnms.errors import UserError, shown
from postnms.files.json_files import LIMITS, JsonLimits, describe

_GZIP = b"\x1f\x8b"
"""The first bytes of every gzip file."""

_PIECE = 1 << 20
"""Least number of characters that are read at once."""

_CUT = 16
"""Characters before the end of a cut text within which the decoder stops.

Where a text ends inside a value, the decoder reports a mistake near the end, or it returns a number
that ends near there and may go on in the next piece. An unterminated string is the one exception:
the decoder reports it where the string begins.
"""

_MARK = re.compile(r"[^ \t\n\r]")
"""A character that is not JSON white space."""


def read_json_list(path: Path, limits: JsonLimits = LIMITS) -> Iterator[Any]:
    """Yield the entries of a file that holds one JSON list, in their order.

    The file is UTF-8, with or without a byte order mark, and may be compressed with gzip, whatever
    its name is. Each entry is decoded when it is asked for, so a mistake late in the file is raised
    after the entries before it were yielded.

    Args:
        path: the file.
        limits: the largest sizes of one entry and of the whole text. A small compressed file may
            hold a very long text.

    Raises:
        UserError: that names the file, if it is missing, cannot be read, does not hold a list, is
            malformed, or is larger than the limits. For malformed JSON the message gives the number
            of the character, counted from 0.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from postnms.files.json_stream import read_json_list
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "results.json"
        ...     count = path.write_text('[{"score": 0.5}, {"score": 1}]')
        ...     list(read_json_list(path))
        [{'score': 0.5}, {'score': 1}]
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of results")
    try:
        with path.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig") as file:
            yield from _ListReader(file, path, limits).entries()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: malformed JSON (not UTF-8)") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: could not be read ({error})") from error


class _ListReader:
    """Reader of one JSON list, which holds the text that is read and not yet decoded.

    ``_text`` is that text, ``_at`` is the position in it up to which it is decoded, and ``_before``
    counts the characters of the file before it.
    """

    def __init__(self, file: TextIO, path: Path, limits: JsonLimits = LIMITS) -> None:
        self._file = file
        self._path = path
        self._limits = limits
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._before = 0

    def entries(self) -> Iterator[Any]:
        """Yield the entries of the list. Raise UserError if the text is not exactly one list."""
        if (first := self._next()) != "[":
            came = f"text that begins with {shown(first)}" if first else "an empty file"
            raise UserError(f"{self._path}: expected a list of results, got {came}")
        self._at += 1
        mark = self._next()
        while mark != "]":
            yield self._value()
            if (mark := self._next()) not in (",", "]"):
                raise self._malformed("expected ',' or ']'")
            if mark == ",":
                self._at += 1
        self._at += 1
        if self._next():
            raise self._malformed("expected nothing after the list")

    def _next(self) -> str:
        """Move to the next character that is not white space, and return it.

        At the end of the file, return an empty string.
        """
        while True:
            if mark := _MARK.search(self._text, self._at):
                self._at = mark.start()
                return mark[0]
            self._at = len(self._text)
            if not self._more():
                return ""

    def _value(self) -> Any:
        """Decode the next value, move behind it, and return it."""
        self._next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not (self._is_cut(error) and self._more()):
                    raise self._malformed(error) from error
            else:
                # A number that ends close to the end of the text may go on in the next piece.
                if end + _CUT < len(self._text) or not self._more():
                    self._at = end
                    return value

    def _is_cut(self, error: Exception) -> bool:
        """Return True if the end of the text may cause the error, and not a mistake in the file."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.pos + _CUT > len(self._text) or error.msg.startswith("Unterminated string")

    def _more(self) -> bool:
        """Read the next piece and forget the decoded text. Return False at the end of the file."""
        # The piece at least doubles the text, so that an entry that is longer than many pieces is
        # decoded again only a few times.
        left = len(self._text) - self._at
        if left > self._limits.entry:
            raise self._too_long("an entry", self._limits.entry, "entry")
        if self._before + self._at + left > self._limits.text:
            raise self._too_long("a text", self._limits.text, "text")
        read = self._file.read(max(_PIECE, left))
        if read:
            self._before += self._at
            self._text, self._at = self._text[self._at :] + read, 0
        return bool(read)

    def _too_long(self, what: str, most: int, limit: str) -> UserError:
        """Return an error that names the file and the limit that it exceeds."""
        return UserError(
            f"{self._path}: expected {what} of at most {most} characters, got a longer one at "
            f"character {self._before + self._at}; JsonLimits.{limit} sets the limit"
        )

    def _malformed(self, mistake: Exception | str) -> UserError:
        """Return an error that names the file and the character of the mistake."""
        at = self._at
        what = mistake if isinstance(mistake, str) else describe(mistake)
        if isinstance(mistake, json.JSONDecodeError):
            at, what = mistake.pos, mistake.msg
        return UserError(f"{self._path}: malformed JSON ({what}: character {self._before + at})")
