"""Commands that run side by side, each in a process of its own.

A command that fails or crashes does not end the others. Only those that wait for it are left out.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from postnms.errors import listed
from postnms.experiments.state import Job

PROGRAM = (sys.executable, "-m", "postnms")
"""What the words of a job are appended to."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Variables of the environment that set the number of threads of a process."""
LAST_LINES = 8
"""Number of lines of a log that are shown if its command has failed."""

_PATIENCE = 0.1
"""Seconds between two looks at the running processes."""
_STOP = signal.SIGTERM if sys.platform == "win32" else signal.SIGINT


@dataclass
class Ended:
    """What became of the jobs."""

    failed: list[Path] = field(default_factory=list)
    """What the jobs that failed should have made."""
    left_out: list[Path] = field(default_factory=list)
    """What the jobs should have made that waited for those."""
    stopped_by: int | None = None
    """Number of the signal that stopped all jobs. None: no signal came."""


@dataclass(frozen=True)
class _Running:
    """A job whose process runs."""

    job: Job
    process: subprocess.Popen[bytes]
    begin: float


def command_lines(jobs: Sequence[Job]) -> list[str]:
    """Return jobs as lines of a shell. A job stands in the line of the one that it waits for.

    So the lines can run in any order, and side by side.
    """
    lines: list[list[Job]] = []
    for job in jobs:
        line = next((line for line in lines if job.after in [one.makes for one in line]), None)
        if line is None:
            lines.append([job])
        else:
            line.append(job)
    return [" && ".join(f"postnms {shlex.join(job.words)}" for job in line) for line in lines]


def run_jobs(
    jobs: Sequence[Job],
    *,
    at_once: int = 1,
    threads: int = 1,
    say: Callable[[str], None] = print,
    program: Sequence[str] = PROGRAM,
) -> Ended:
    """Run jobs in their order, a number of them side by side.

    Ctrl-C (SIGINT) and SIGTERM stop the running jobs by one SIGINT each, on which a training ends
    with a checkpoint. Then no other job begins. A second signal is passed on as well, on which a
    training ends at once. This function must be called in the main thread.

    Args:
        jobs: the jobs, each after the one that it waits for.
        at_once: largest number of processes at a time.
        threads: number of threads of each process.
        say: called with a line when a job begins and when it ends.
        program: the command that the words of a job are appended to.

    Returns:
        The jobs that failed or were left out, and the signal if one came.
    """
    ended = Ended()
    waiting = list(jobs)
    running: list[_Running] = []
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    with _signals() as signals:
        passed_on = 0
        try:
            while waiting or running:
                if len(signals) > passed_on:
                    passed_on = len(signals)
                    waiting.clear()
                    _stop(running)
                    say(f"stopping the running jobs: {len(running)}; once more: stop at once")
                while len(running) < at_once and (job := _next(waiting, running, ended)):
                    running.append(_begin(job, program, environment))
                    say(f"{job.makes}: {job.words[0]} begins, see {job.log}")
                still = [entry for entry in running if entry.process.poll() is None]
                for entry in running:
                    if entry not in still:
                        _end(entry, ended, bool(signals), len(waiting) + len(still), say)
                running = still
                if running:
                    time.sleep(_PATIENCE)
        finally:  # An error here must not leave processes behind that nobody looks after.
            _stop(running)
            for entry in running:
                entry.process.wait()
    ended.stopped_by = signals[0] if signals else None
    return ended


def _next(waiting: list[Job], running: Sequence[_Running], ended: Ended) -> Job | None:
    """Take the first job that can begin out of the waiting ones. None: there is none.

    Jobs that wait for one that has failed or is left out are left out as well.
    """
    for job in list(waiting):
        if job.after in (*ended.failed, *ended.left_out):
            waiting.remove(job)
            ended.left_out.append(job.makes)
    open_jobs = {job.makes for job in waiting} | {entry.job.makes for entry in running}
    for job in waiting:
        if job.after not in open_jobs:
            waiting.remove(job)
            return job
    return None


def _begin(job: Job, program: Sequence[str], environment: dict[str, str]) -> _Running:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        log.write(f"$ postnms {shlex.join(job.words)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [*program, *job.words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            # Ctrl-C in a terminal reaches all processes of its group. A training that got it from
            # there and again from here would end at once, without a checkpoint.
            start_new_session=True,
        )
    return _Running(job, process, time.monotonic())


def _end(
    entry: _Running, ended: Ended, stopped: bool, left: int, say: Callable[[str], None]
) -> None:
    """Say how a job has ended, and note it if it failed."""
    job, status = entry.job, entry.process.returncode
    minutes = (time.monotonic() - entry.begin) / 60
    if status == 0:
        say(f"{job.makes}: {job.words[0]} done in {minutes:.1f} min, jobs left: {left}")
    elif stopped:
        say(f"{job.makes}: {job.words[0]} stopped")
    else:
        ended.failed.append(job.makes)
        said = "".join(f"\n    {line}" for line in last_lines(job.log))
        say(f"{job.makes}: {job.words[0]} failed (exit status {status}), see {job.log}:{said}")


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log that are not empty."""
    lines = log.read_bytes().decode(errors="replace").splitlines()
    return [line for line in lines if line.strip()][-LAST_LINES:]


def failure(ended: Ended) -> str:
    """Return one line that says which jobs failed and which were left out."""
    said = f"failed: {listed([str(path) for path in ended.failed])}"
    if ended.left_out:
        said += f"; left out, as they wait for these: {listed([str(p) for p in ended.left_out])}"
    return said


def _stop(running: Sequence[_Running]) -> None:
    for entry in running:
        if entry.process.poll() is None:
            entry.process.send_signal(_STOP)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Give a list to which the signals that come during the ``with`` block are appended."""
    came: list[int] = []

    def note(number: int, _: object) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
