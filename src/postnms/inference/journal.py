"""The journal of a prediction job: a line of JSON for each image, written as the work goes on.

A job that was stopped in any way loses at most the image that it worked on. The next job in the
folder skips the images that are done, and :meth:`Journal.merge` turns all lines into the files of
results.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Self

from postnms.errors import UserError
from postnms.files.atomic import atomic_path, write_json
from postnms.files.folders import Marker
from postnms.files.json_files import parse_json, read_json
from postnms.inference.exports import remove_exports

LISTED = "images.json"
"""Name of the file that lists the images, their ids, and those that could not be read."""
LINES = "journal.jsonl"
"""Name of the journal."""
CUT = "cut"
"""Field of a line that is true where the detector's limit has cut detections of the image."""
MARKER = Marker("predict.json", ("rows", "settings"))
"""The file that marks a folder as one of predictions. It holds the settings of the job."""


class Journal:
    """The images of a folder of predictions that are done, in a ``with`` block.

    Each line is an object with the ``id`` of the image, its ``file_name`` and the name of its
    ``picture``. An image has such a line when a job plans it. When it is done, it has another one
    with the size and time of its file (``stamp``) and the ``results`` of every row, or with an
    ``error``. Where the detector's limit has cut detections, ``cut`` is true. Of several lines of
    one image the last one counts.

    Args:
        folder: the folder, which this process holds.
        rows: names of the rows of the detector, whose results are written.
        settings: everything that decides the results, which JSON can hold. If the journal was
            written with other settings, its lines, pictures and results are removed.

    Raises:
        UserError: the operating system refuses.
    """

    def __init__(self, folder: Path, rows: Sequence[str], settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._rows = tuple(rows)
        self._path = folder / LINES
        self._lines: dict[str, dict[str, Any]] = {}
        self._starts: dict[str, int] = {}
        self.next_id = 1
        """An id that is larger than all ids in use."""
        self._read()
        # By way of JSON, where a list may stand for a tuple.
        about = json.loads(json.dumps({"rows": self._rows, "settings": settings}))
        if self._lines and (before := read_json(folder / MARKER.name)) != about:
            self._remove_all(before["rows"])
        write_json(folder / MARKER.name, about)
        self._file: IO[bytes] = self._path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def pictures(self) -> set[str]:
        """Names of all pictures, drawn or planned, in lower case."""
        return {line["picture"].lower() for line in self._lines.values()}

    @property
    def cut(self) -> int:
        """Number of images of which the detector's limit has cut detections."""
        return sum(line.get(CUT) is True for line in self._lines.values())

    def line_of(self, path: Path) -> dict[str, Any] | None:
        """Return the line of an image without its results, or None if the image is new."""
        return self._lines.get(str(path))

    def is_done(self, path: Path) -> bool:
        """Return whether an image was drawn, and neither it nor its picture is gone since."""
        line = self._lines.get(str(path), {})
        return line.get("stamp") == stamp_of(path) and (self._folder / line["picture"]).is_file()

    def add(self, line: Mapping[str, Any]) -> None:
        """Write the line of an image. It survives the end of this process.

        Raises UserError if the operating system refuses.
        """
        try:
            start = self._file.tell()
            self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self._path}: could not be written ({error})") from error
        self._remember(line, start)

    def merge(self) -> dict[str, int]:
        """Write the COCO results of every row, and the list of images, from all lines.

        Returns the number of detections of each row. Raises UserError if the operating system
        refuses.
        """
        os.fsync(self._file.fileno())
        finished = [line for line in self._lines.values() if line.keys() & {"stamp", "error"}]
        finished.sort(key=lambda line: line["id"])
        listed = [{name: line[name] for name in line if name != "stamp"} for line in finished]
        write_json(self._folder / LISTED, listed)
        counts = dict.fromkeys(self._rows, 0)
        with ExitStack() as files:
            # Memory holds the results of one image.
            out = {row: files.enter_context(_list_file(self._results(row))) for row in self._rows}
            for line in self._whole_lines([line["file_name"] for line in finished]):
                for row in self._rows:
                    for result in line.get("results", {}).get(row, []):
                        out[row].write((",\n" if counts[row] else "") + json.dumps(result))
                        counts[row] += 1
        return counts

    def finished(self, *, errors: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the lines of the images that are done, with their results, by rising id.

        ``errors``: also those of images that could not be read.
        """
        kinds = {"stamp", "error"} if errors else {"stamp"}
        lines = [line for line in self._lines.values() if line.keys() & kinds]
        lines.sort(key=lambda line: line["id"])
        return self._whole_lines([line["file_name"] for line in lines])

    def remove_exports(self) -> None:
        """Remove what earlier jobs have written in further formats."""
        remove_exports(self._folder, self._rows, self._picture_names())

    def _picture_names(self) -> list[str]:
        return [line["picture"] for line in self._lines.values()]

    def _results(self, row: str) -> Path:
        return self._folder / f"results_{row}.json"

    def _whole_lines(self, file_names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the lines of some images, with their results."""
        with self._path.open("rb") as file:
            for name in file_names:
                file.seek(self._starts[name])
                yield json.loads(file.readline())

    def _remember(self, line: Mapping[str, Any], start: int) -> None:
        self.next_id = max(self.next_id, line["id"] + 1)
        self._starts[line["file_name"]] = start
        self._lines[line["file_name"]] = {n: line[n] for n in line if n != "results"}

    def _read(self) -> None:
        """Read the lines of earlier jobs. A last line that is half written is cut off."""
        if not self._path.is_file():
            return
        whole = 0
        with self._path.open("rb") as file:
            for text in file:
                start = whole
                if not text.endswith(b"\n"):
                    break
                whole += len(text)
                if (line := _parse(text)) is not None:
                    self._remember(line, start)
        os.truncate(self._path, whole)

    def _remove_all(self, rows: Sequence[str]) -> None:
        """Remove pictures, lines and results of a job with other settings and these rows."""
        # Only the last part of a name counts, so that it cannot lead out of the folder.
        names = [Path(row).name for row in rows]
        for name in names:
            self._results(name).unlink(missing_ok=True)
        remove_exports(self._folder, names, self._picture_names())
        for picture in self._picture_names():
            (self._folder / picture).unlink(missing_ok=True)
        self._path.unlink()
        self._lines = {}
        self._starts = {}
        self.next_id = 1


@contextmanager
def _list_file(path: Path) -> Iterator[IO[str]]:
    """Give an open file for the entries of a JSON list, which is written whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        yield file
        file.write("]\n")


def stamp_of(path: Path) -> list[int]:
    """Return the size in bytes and the time of the last change of a file. Both 0: it is gone."""
    try:
        about = path.stat()
    except OSError:
        return [0, 0]
    return [about.st_size, about.st_mtime_ns]


def _parse(text: bytes) -> dict[str, Any] | None:
    """Return a line of the journal, or None if it is damaged: its image is then done again."""
    try:
        line = parse_json(text, LINES)
    except UserError:
        return None
    if not isinstance(line, dict) or type(line.get("id")) is not int:
        return None
    if not isinstance(line.get("file_name"), str) or not isinstance(line.get("picture"), str):
        return None
    # A damaged name must not lead out of the folder.
    is_name = line["picture"] == Path(line["picture"]).name
    return line if is_name and isinstance(line.get("results", {}), dict) else None
