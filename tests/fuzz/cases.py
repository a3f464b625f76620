"""One case: a file is damaged, it is read, and a verdict says what came of it."""

import re
import shutil
import traceback
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path

import numpy as np

import postnms
from postnms.errors import UserError
from tests.fuzz.damage import Damage

LIBRARY = Path(postnms.__file__).parent
LONGEST_MESSAGE = 500
"""Characters of a clean message, without the folder of the file."""
LONGEST_REPORT = 20_000
"""Characters of a traceback that are kept."""
LARGEST_OTHER = 1 << 16
"""Bytes up to which a file may be spliced into others."""


class Verdict(StrEnum):
    """What came of a case."""

    OK = "ok"
    """The file was read, and what was read is consistent."""
    CLEAN = "clean"
    """An error of the kind that is promised, whose message is as it must be."""
    UNCLEAR = "unclear"
    """An error of this kind, whose message does not name the file, is too long, or is no line."""
    TRACEBACK = "traceback"
    """Any other exception."""
    WRONG = "wrong"
    """The file was read, and what was read is not what the library promises."""
    MEMORY = "memory"
    """The process grew by more memory than it may take, whatever it said then."""
    HANG = "hang"
    """The case did not end within its time."""
    CRASH = "crash"
    """The process died."""


FINE = (Verdict.OK, Verdict.CLEAN)
"""Verdicts that are no offence."""


class WrongResultError(AssertionError):
    """Something was read that the library promises never to give."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is damaged, and what reads it.

    The undamaged files of a kind lie in a folder of the name of the kind.
    """

    files: tuple[str, ...]
    """Names of the files that are damaged, one in each case."""
    damage: Damage
    read: Callable[[Path, Path], None]
    """Reads a damaged file, whose neighbours are undamaged, and checks what was read.

    The second path is that of the undamaged file. Raises WrongResultError."""
    share: int = 1
    """How many cases of this kind there are in a round through all kinds."""
    error: type[Exception] = UserError
    """The error that is promised."""
    blames: str = ""
    """Pattern of what the message of this error may name in place of the file."""


@dataclass(frozen=True)
class Outcome:
    """The result of a case."""

    kind: str
    number: int | None
    """None: the file was given, it was not made."""
    file: str
    damage: str
    verdict: Verdict
    report: str = ""
    """The message, and of an offence the traceback."""
    place: str = ""
    """The type of the exception, and the line of the library that raised it."""
    peak: float = 0.0
    """MiB by which the process grew in this case."""

    @property
    def is_offence(self):
        return self.verdict not in FINE


class Cases:
    """Cases of several kinds.

    ``undamaged`` has a folder for each kind. The damaged files are written to ``work``, in which a
    folder of the kind is made anew for each case.
    """

    def __init__(self, kinds, undamaged, work, seed):
        self.kinds, self.undamaged, self.work, self.seed = kinds, undamaged, work, seed
        files = sorted(path for path in undamaged.rglob("*") if path.is_file())
        self.others = [p.read_bytes() for p in files if p.stat().st_size <= LARGEST_OTHER]

    def check_undamaged(self):
        """Read every undamaged file, which must not fail."""
        for name, kind in self.kinds.items():
            for file in kind.files:
                self.lay_out(name, file, (self.undamaged / name / file).read_bytes())
                kind.read(self.work / name / file, self.undamaged / name / file)

    def damage(self, name, number):
        """Return the file of a case, which the seed, the kind and the number decide.

        These are its name, its damaged content, and a text that says what was done.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode()), number])
        kind = self.kinds[name]
        file = kind.files[int(rng.integers(len(kind.files)))]
        undamaged = (self.undamaged / name / file).read_bytes()
        return file, *kind.damage(undamaged, rng, self.others)

    def run(self, name, number):
        """Damage and read the file of one case."""
        file, damaged, what = self.damage(name, number)
        return self.try_file(name, file, damaged, number, what)

    def try_file(self, name, file, damaged, number=None, what=""):
        """Read given bytes in place of an undamaged file."""
        self.lay_out(name, file, damaged)
        path = self.work / name / file
        verdict, report, where = judge(self.kinds[name], path, self.undamaged / name / file)
        return Outcome(name, number, file, what, verdict, report, where)

    def lay_out(self, name, file, damaged):
        """Make the folder of a kind, with one file damaged and all others as they are."""
        folder = self.work / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for path in (self.undamaged / name).rglob("*"):
            copy = folder / path.relative_to(self.undamaged / name)
            if path.is_dir():
                copy.mkdir(parents=True, exist_ok=True)
            elif copy != folder / file:
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.symlink_to(path)
        (folder / file).write_bytes(damaged)


def rounds(kinds):
    """Yield the kind and the number of one case after another, without end."""
    numbers = {name: count() for name in kinds}
    while True:
        for turn in range(max(kind.share for kind in kinds.values())):
            for name, kind in kinds.items():
                if turn < kind.share:
                    yield name, next(numbers[name])


def judge(kind, path, undamaged):
    """Read a file; return the verdict, a report, and the place of an exception."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(path, undamaged)
    except KeyboardInterrupt:
        raise
    # Rust's panics and other exceptions that are no ``Exception`` are offences too.
    except BaseException as error:
        return judge_error(kind, path, error)
    return Verdict.OK, "", ""


def judge_error(kind, path, error):
    trace = "".join(traceback.format_exception(error))[-LONGEST_REPORT:]
    where = f"{type(error).__name__} in {place_of(error)}"
    if isinstance(error, WrongResultError):
        return Verdict.WRONG, trace, f"{error!s:.60}"
    if not isinstance(error, kind.error):
        return Verdict.TRACEBACK, trace, where
    message = str(error)
    argument = getattr(error, "argument", None)
    blames = [re.escape(path.name), *filter(None, (kind.blames, argument and f"^{argument}"))]
    if fault := fault_of(message.replace(str(path.parent), ""), "|".join(blames)):
        return Verdict.UNCLEAR, f"{fault}\n{trace}", f"{where}: {fault}"
    return Verdict.CLEAN, message, ""


def fault_of(message, blames):
    """Return what is wrong with the message of an error, or an empty text."""
    if len(message.splitlines()) != 1:
        return "not one line"
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in message):
        return "control characters"
    if len(message) > LONGEST_MESSAGE:
        return f"more than {LONGEST_MESSAGE} characters"
    return "" if re.search(blames, message) else "names no file or argument"


def place_of(error):
    """Return the last line of the library that an exception passed, or the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(LIBRARY)]
    last = (own or frames)[-1]
    file = Path(last.filename).relative_to(LIBRARY) if own else Path(last.filename).name
    return f"{file}:{last.lineno} {last.name}"
