"""A stop that somebody asks for while a run trains, at the end of an iteration."""

from collections.abc import Callable

from accelerate import Accelerator

from postnms.distributed.collectives import max_over_processes
from postnms.training.schedule import Schedule

Stop = Callable[[], bool]
"""Tells whether training is asked to stop. It is called after every iteration."""


class TrainingStopped(Exception):  # noqa: N818, nothing has gone wrong
    """The training was asked to stop. Its checkpoint is written, from which it can go on."""

    def __init__(self, finished: int, iterations: int) -> None:
        super().__init__(f"stopped after iteration {finished} of {iterations}")
        self.finished = finished
        """Number of iterations that are finished."""


def never() -> bool:
    """Return False: nobody asks."""
    return False


def is_stopped(stop: Stop, finished: int, schedule: Schedule, accelerator: Accelerator) -> bool:
    """Return whether training ends after ``finished`` iterations, the same in all processes.

    Several processes agree on it where a line of the log is due, since they wait for each other
    there anyway. One process needs nobody's consent.
    """
    if finished == schedule.iterations:
        return False  # Nothing is left to stop.
    if accelerator.num_processes == 1:
        return stop()
    if finished % schedule.log_every:
        return False
    return max_over_processes([int(stop())], accelerator.device)[0] > 0
