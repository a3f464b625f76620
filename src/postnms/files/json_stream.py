"""A JSON list of any length, read entry by entry."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from postnms.errors import UserError

_GZIP = b"\x1f\x8b"


_PIECE = 1 << 20
"""Characters read together."""


_CUT = 16
"""Where a text is cut off, the decoder stops at most so many characters before, with a mistake or half a number."""


_MARK = re.compile(r"[^ \t\n\r]")


def read_list(path: Path) -> Iterator[Any]:
    """The entries of a JSON list one by one. Raises UserError that names the file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file of results")
    try:
        with path.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig") as file:
            yield from _Text(file, path).entries()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: could not be read ({error})") from error


class _Text:
    """JSON read in pieces: what is left of the last ones, and how far it is decoded."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at, self._before = "", 0, 0

    def entries(self) -> Iterator[Any]:
        if (first := self._next()) != "[":
            came = f"text that begins with {first!r}" if first else "an empty file"
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
        """The next character that is no white space, which it moves to; an empty string at the end."""
        while True:
            if mark := _MARK.search(self._text, self._at):
                self._at = mark.start()
                return mark[0]
            self._at = len(self._text)
            if not self._more():
                return ""

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not (self._is_cut(error) and self._more()):
                    raise self._malformed(error) from error
            else:
                if end + _CUT < len(self._text) or not self._more():
                    self._at = end
                    return value

    def _is_cut(self, error: Exception) -> bool:
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.pos + _CUT > len(self._text) or error.msg.startswith("Unterminated string")

    def _more(self) -> bool:
        read = self._file.read(max(_PIECE, len(self._text) - self._at))
        if read:
            self._before += self._at
            self._text, self._at = self._text[self._at :] + read, 0
        return bool(read)

    def _malformed(self, mistake: Exception | str) -> UserError:
        at, what = self._at, str(mistake)
        if isinstance(mistake, json.JSONDecodeError):
            at, what = mistake.pos, mistake.msg
        return UserError(f"{self._path}: malformed JSON ({what}: character {self._before + at})")
