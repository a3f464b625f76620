"""Readers with faults of every kind, for the tests of the harness."""

import mmap
import os
import time
from pathlib import Path

from postnms.errors import UserError
from tests.fuzz.cases import Kind, WrongResultError

CONTENT = b"undamaged"


def identity(data, rng, others):
    return b"damaged", "planted"


def fail(data, rng, others):
    raise ZeroDivisionError("planted in a damage")


def only_if_damaged(fault):
    """Return a reader that shows a fault for every file but the undamaged one."""

    def read(path, undamaged):
        if path.read_bytes() != CONTENT:
            fault(path)

    return read


def refuse(path):
    raise UserError(f"{path}: expected the undamaged file, got another one")


def refuse_at_length(path):
    raise UserError(f"{path}: expected the undamaged file, got {'x' * 600}")


class RawError(UserError):
    """An error whose message is as it was given, which :class:`UserError` prevents."""

    def __init__(self, message):
        ValueError.__init__(self, message)
        self.argument = None


def refuse_with_escapes(path):
    raise RawError(f"{path}: expected the undamaged file, got \x1b[31m")


def refuse_without_name(path):
    raise UserError("expected the undamaged file")


def refuse_in_two_lines(path):
    raise RawError(f"{path}: expected\nthe undamaged file")


def raise_another(path):
    raise KeyError("planted")


def give_wrong(path):
    raise WrongResultError("planted")


def take_memory(path):
    b"x" * (600 << 20)


def keep_memory(path):
    kept = b"x" * (600 << 20)
    time.sleep(len(kept))


def grow(path):
    # Memory that the process has freed before could be taken again without growth; mapped pages
    # are new.
    with mmap.mmap(-1, 50 << 20) as pages:
        for _ in range(50):
            pages.write(b"x" * (1 << 20))


def hang(path):
    time.sleep(600)


def crash(path):
    os.abort()


FAULTS = {
    "accepted": lambda path: None,
    "refused": refuse,
    "refused at length": refuse_at_length,
    "refused with escapes": refuse_with_escapes,
    "refused without name": refuse_without_name,
    "refused in two lines": refuse_in_two_lines,
    "traceback": raise_another,
    "wrong": give_wrong,
    "memory": take_memory,
    "memory kept": keep_memory,
    "growth": grow,
    "hang": hang,
    "crash": crash,
}
KINDS = {
    name: Kind(("file.bin",), identity, only_if_damaged(fault)) for name, fault in FAULTS.items()
}
KINDS["no damage"] = Kind(("file.bin",), fail, only_if_damaged(refuse))


def write_undamaged(folder: Path):
    for name, kind in KINDS.items():
        (folder / name).mkdir(parents=True)
        for file in kind.files:
            (folder / name / file).write_bytes(CONTENT)
