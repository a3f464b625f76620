"""One copy of a split in the memory of a machine, for all processes that train together.

The first process of the machine reads the split and writes its columns of numbers into a temporary
file. All processes map this file into their memory, read-only, and then its name is removed: the
system keeps the content as long as a process lives, and nothing is left behind. Worker processes
that are forked share it too.
"""

import mmap
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from accelerate.utils import gather_object

from postnms.data.dataset import Dataset
from postnms.distributed.processes import this_process
from postnms.errors import UserError

_ALIGNMENT = 64
"""Every column begins at a multiple of so many bytes."""


@dataclass(frozen=True)
class Shelf:
    """Where a split lies for other processes of the machine."""

    frame: bytes
    """The split without the content of its columns, as pickle."""
    file: str
    """The file with the columns."""
    ranges: tuple[tuple[int, int], ...]
    """First byte of each column in the file, and the byte behind it."""


def read_once(read: Callable[[], Dataset]) -> Dataset:
    """Return the split that ``read`` gives, which one process of each machine calls.

    All processes must call this at the same point. Without others, the process reads for itself,
    and so it does on Windows, where the name of a file in use cannot be removed.

    Raises UserError in all processes if ``read`` raises it in one.
    """
    process = this_process()
    if process.num_processes == 1 or os.name == "nt":
        return read()
    with _new_file() as file:
        outcome: Shelf | UserError | None = None
        if process.local_process_index == 0:
            try:
                outcome = put(read(), file)
            except UserError as error:
                outcome = error
        # Processes of a machine are numbered one after another.
        outcomes = gather_object([outcome])
        for failure in outcomes:
            if isinstance(failure, UserError):
                raise failure
        dataset = take(outcomes[process.process_index - process.local_process_index])
        process.wait_for_everyone()
    return dataset


def put(dataset: Dataset, file: Path) -> Shelf:
    """Write the columns of a split to a file. Raises UserError if the operating system refuses."""
    columns: list[pickle.PickleBuffer] = []
    frame = pickle.dumps(dataset, protocol=5, buffer_callback=columns.append)
    ranges = []
    try:
        with file.open("wb") as out:
            for column in columns:
                out.write(bytes(-out.tell() % _ALIGNMENT))
                start = out.tell()
                out.write(column.raw())
                ranges.append((start, out.tell()))
            # A file without bytes cannot be mapped.
            out.write(bytes(1))
    except OSError as error:
        raise UserError(f"{file}: could not be written ({error})") from error
    return Shelf(frame, str(file), tuple(ranges))


def take(shelf: Shelf) -> Dataset:
    """Return a split whose columns are those in the file, which cannot be written to."""
    try:
        with open(shelf.file, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise UserError(f"{shelf.file}: could not be read ({error})") from error
    return pickle.loads(shelf.frame, buffers=[content[start:end] for start, end in shelf.ranges])


@contextmanager
def _new_file() -> Iterator[Path]:
    """Give a new temporary file of this process, and remove its name behind the ``with`` block."""
    number, name = tempfile.mkstemp(prefix="postnms-", suffix=".columns")
    os.close(number)
    try:
        yield Path(name)
    finally:
        os.unlink(name)
