"""Signals that ask a training to stop: Ctrl-C (SIGINT) and SIGTERM."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from postnms.cli.console import visible

if TYPE_CHECKING:
    from postnms.training import TrainingStopped


class StopSignals:
    """The first signal that came."""

    def __init__(self) -> None:
        self.number: int | None = None
        """Its number. None: no signal has come."""

    def __call__(self) -> bool:
        """Return whether a signal has come."""
        return self.number is not None


@contextmanager
def stop_on_signals(*, several: bool) -> Iterator[StopSignals]:
    """Keep the first signal of the ``with`` block, and let the second one end the process at once.

    The exit status is then 128 plus the number of the signal. With ``several`` processes a second
    signal changes nothing: Ctrl-C reaches each process from the terminal and again from its
    launcher, which ends those that take too long.
    """
    asked = StopSignals()

    def on_signal(number: int, _: object) -> None:
        if asked.number is None:
            asked.number = number
            print(
                "stopping at the end of this iteration, with a checkpoint; "
                "once more: stop at once and without one",
                file=sys.stderr,
            )
        elif not several:
            sys.exit(128 + number)

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_stopped(
    stopped: "TrainingStopped", run: Path, number: int | None, *, is_main: bool
) -> NoReturn:
    """Say how a stopped training goes on, and end the process as the signal would have."""
    if is_main:
        resume = f"postnms train --resume {shlex.quote(str(run))}"
        print(visible(f"{stopped}; go on with: {resume}"), file=sys.stderr)
    sys.exit(128 + (number or signal.SIGTERM))
