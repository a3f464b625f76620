"""What verbs print: progress on stderr, tables and lines on stdout."""

import shlex
import sys
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


def say(text: str) -> None:
    """Print a line on stdout and leave it to the terminal to break it."""
    out.print(text, soft_wrap=True)


@contextmanager
def progress_bar(what: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr.

    Gives the function to call with the number of steps that are finished since the last call.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)


def print_evaluation(evaluation: "Evaluation", console: Console = out) -> None:
    """Print the figures of all rows as a table, and the gain with its interval."""
    from postnms.evaluation.metrics import FIGURES, show

    first = Column("row", min_width=len("post_nms"), overflow="fold")
    table = Table(first, *FIGURES, box=None, padding=(0, 1, 0, 0))
    for row, figures in evaluation.rows.items():
        table.add_row(row, *(show(figures[name]) for name in FIGURES))
    console.print(table)
    gain = evaluation.gain
    if gain is not None and gain.AP is not None:
        interval = ""
        if gain.low is not None:
            interval = f" (95 % interval {gain.low:+.2f} to {gain.high:+.2f})"
        console.print(f"gain of post-NMS over NMS: {gain.AP:+.2f} AP{interval}")


def print_wide(table: Table) -> None:
    """Print a table without folding its columns, also where the console is narrower."""
    needed = Measurement.get(out, out.options.update(max_width=1000), table).maximum
    wide = Console(file=out.file, width=max(needed, out.width), highlight=False, markup=False)
    wide.print(table)


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
