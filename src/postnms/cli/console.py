"""What verbs print: progress on stderr, tables and lines on stdout."""

import logging
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

if TYPE_CHECKING:
    from postnms.evaluation.results import Evaluation

out = Console(highlight=False, markup=False)
"""Stdout. File names and other text of the user are printed as they are, in one line."""

MOST_CLASSES = 20
"""Largest number of classes whose figures are printed."""

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that a terminal may obey, and those that it cannot be sent."""


def say(text: str) -> None:
    """Print a line on stdout and leave it to the terminal to break it."""
    out.print(visible(text), soft_wrap=True)


def visible(text: str) -> str:
    r"""Return a text with escapes in place of control characters, except for line breaks.

    Names in files of others may hold sequences that change a terminal.

    Example:
        >>> visible("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def show_warnings() -> None:
    """Show the warnings of the library as plain lines on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_VisibleFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


class _VisibleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@contextmanager
def progress_bar(
    what: str, total: int, *, shown: bool = True, patience: float = 0.0
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr.

    Gives the function to call with the number of steps that are finished since the last call. The
    bar appears at the first call after ``patience`` seconds, so that short work has none.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=not shown)
    task = bar.add_task(what, total=total)
    begin = time.monotonic()

    def done(steps: int) -> None:
        bar.advance(task, steps)
        if not bar.live.is_started and time.monotonic() - begin >= patience:
            bar.start()

    if not patience:
        bar.start()
    try:
        yield done
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def stop_in_order(message: str) -> Iterator[None]:
    """Let SIGTERM end the ``with`` block by an exception, as Ctrl-C does, and show the message.

    Without this, SIGTERM ends the process at once, and blocks of ``finally`` do not run. The exit
    status is 128 plus the number of the signal.
    """

    def stop(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        print(message, file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def print_evaluation(evaluation: "Evaluation", console: Console = out) -> None:
    """Print the figures of all rows as a table, and the gains with their intervals."""
    from postnms.evaluation.metrics import FIGURES, show

    table = Table("row", *FIGURES, box=None, padding=(0, 1, 0, 0))
    for row, figures in evaluation.rows.items():
        table.add_row(visible(row), *(show(figures[name]) for name in FIGURES))
    print_wide(table, console)
    for row, gain in evaluation.gains.items():
        if gain.AP is None:
            continue
        interval = ""
        if gain.low is not None:
            interval = f" (95 % interval {gain.low:+.2f} to {gain.high:+.2f})"
        line = f"gain of {visible(row)} over nms: {gain.AP:+.2f} AP{interval}"
        console.print(line, soft_wrap=True)


def print_classes(evaluation: "Evaluation", file: Path, console: Console = out) -> None:
    """Print AP and AP50 of each class in every row; of many classes, the first ones.

    ``file`` holds the figures of all classes.
    """
    from postnms.evaluation.metrics import show

    if not evaluation.classes:
        return
    numbers = [
        Column(f"{row} {figure}", justify="right")
        for row in evaluation.classes
        for figure in ("AP", "AP50")
    ]
    table = Table(Column("class", overflow="fold"), *numbers, box=None, padding=(0, 1, 0, 0))
    lines = list(zip(*evaluation.classes.values(), strict=True))
    for line in lines[:MOST_CLASSES]:
        figures = [show(figure) for of_row in line for figure in (of_row.AP, of_row.AP50)]
        table.add_row(visible(line[0].name), *figures)
    print_wide(table, console)
    if len(lines) > MOST_CLASSES:
        more = visible(f"and {len(lines) - MOST_CLASSES} more classes, in {file.name}")
        console.print(more, soft_wrap=True)


def print_wide(table: Table, console: Console = out) -> None:
    """Print a table without folding its columns, also where the console is narrower."""
    needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    width = max(needed, console.width)
    Console(file=console.file, width=width, highlight=False, markup=False).print(table)


def command_line() -> str:
    """Return the command that started this process, as a user would type it."""
    program = Path(sys.argv[0])
    if program.stem == "__main__":
        words = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        words = ["python", str(program)]
    else:
        words = [program.name]
    return shlex.join([*words, *sys.argv[1:]])
