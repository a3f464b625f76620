"""Threads that share the work of one call of a compiled kernel.

The kernels release Python's global lock, so ordinary threads of Python run them side by side. numba
has parallel loops of its own, but they end the process in two common cases: in a process that was
forked after they ran on GNU OpenMP, and if two threads use them at once on the layer "workqueue".

The threads are those of one pool, which belongs to the process and starts them when work comes. A
forked process makes a pool of its own. The caller always takes part in its own work, and it waits
for nothing but ranges that other threads have begun. So it does not matter how many threads are
free: the work is done if there is none at all, and calls from threads of the pool cannot block.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Event, Lock

import torch

Range = tuple[int, int]
"""First number and the number after the last one."""

LEAST_WORK = 2**22
"""Smallest number of multiply-adds for which threads share the work.

These take about 0.3 ms on one thread. To wake another one takes up to a third of that.
"""
RANGES_A_THREAD = 4
"""Number of ranges into which work is split for each thread.

A thread that is held up, by another process for example, then leaves its ranges to the others.
"""


def split(count: int, multiply_adds: float) -> list[Range]:
    """Split the numbers from 0 to ``count`` - 1 into ranges of about equal length.

    Args:
        count: Number of parts of the work, which may be done in any order.
        multiply_adds: About how many multiply-adds all parts take together.

    Returns:
        The ranges in rising order, none of them empty. It is one range if the work is small, or if
        torch uses one thread.
    """
    threads = torch.get_num_threads()
    if threads == 1 or multiply_adds < LEAST_WORK:
        return [(0, count)] if count else []
    ranges = min(count, threads * RANGES_A_THREAD)
    return [(count * i // ranges, count * (i + 1) // ranges) for i in range(ranges)]


def share(work: Callable[[Range], object], ranges: Sequence[Range]) -> None:
    """Call ``work`` with each of the ranges, on as many threads as torch uses.

    The calls may run at the same time and in any order, so no two of them may write to one place.
    All of them have returned when this function returns. An exception of one of them is raised
    here.
    """
    if len(ranges) < 2:
        for only in ranges:
            work(only)
        return
    shared = _SharedWork(work, ranges)
    for _ in range(min(torch.get_num_threads(), len(ranges)) - 1):
        try:
            _pool().submit(shared.take_part)
        except RuntimeError:
            # The interpreter is about to end, or the system has no thread left. Then the threads
            # that there are, at least this one, do the work.
            break
    shared.take_part()
    shared.wait()


class _SharedWork:
    """The ranges of one call of :func:`share`, which several threads take one by one."""

    def __init__(self, work: Callable[[Range], object], ranges: Sequence[Range]) -> None:
        self._work = work
        self._waiting = deque(ranges)
        self._unfinished = len(ranges)
        self._lock = Lock()
        self._finished = Event()
        self._error: Exception | None = None

    def take_part(self) -> None:
        """Do ranges until none is waiting. Exceptions are kept for :meth:`wait`."""
        while True:
            try:
                part = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._work(part)
            except Exception as error:
                self._error = error
            finally:
                self._count_down()

    def wait(self) -> None:
        """Wait until all ranges are done, and raise an exception that one of them has raised."""
        self._finished.wait()
        if self._error is not None:
            raise self._error

    def _count_down(self) -> None:
        with self._lock:
            self._unfinished -= 1
            if self._unfinished == 0:
                self._finished.set()


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the pool of this process. It starts a thread only if no other one is free."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="postnms")


if hasattr(os, "register_at_fork"):
    # A forked process has none of the threads of its parent.
    os.register_at_fork(after_in_child=_pool.cache_clear)
