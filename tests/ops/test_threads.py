"""Threads that share the work of kernels: every range once, no deadlock, and forks."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.ops import threads
from postnms.ops.threads import share, split


@pytest.fixture
def three(monkeypatch):
    """Torch says that it uses three threads, and any work is shared."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(threads, "LEAST_WORK", 0)


@given(count=st.integers(0, 100), number=st.integers(1, 40))
@settings(deadline=None)
def test_ranges_follow_each_other_and_none_is_empty(count, number):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: number)
        ranges = split(count, threads.LEAST_WORK)
    assert [i for first, after in ranges for i in range(first, after)] == list(range(count))
    assert all(first < after for first, after in ranges)
    sizes = {after - first for first, after in ranges}
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert len(ranges) == min(count, 1 if number == 1 else 4 * number)


def test_small_work_is_one_range(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert split(100, threads.LEAST_WORK - 1) == [(0, 100)]
    assert split(0, 0) == []


def test_small_work_starts_no_thread(monkeypatch):
    monkeypatch.setattr(threads, "_pool", lambda: pytest.fail("a pool for one range"))
    done = []
    share(done.append, [(0, 5)])
    share(done.append, [])
    assert done == [(0, 5)]


def test_three_threads_share_the_ranges(three):
    """Each waits for the others, so this ends only if three of them work at the same time."""
    meeting, done = threading.Barrier(3, timeout=60), []

    def work(part):
        if part[0] < 3:
            meeting.wait()
        done.append((part, threading.get_ident()))

    ranges = [(i, i + 1) for i in range(12)]
    share(work, ranges)
    assert sorted(part for part, _ in done) == ranges
    assert len({ident for _, ident in done}) == 3
    assert threading.get_ident() in {ident for _, ident in done}


def test_it_returns_when_all_are_done(three):
    done = []
    share(lambda part: (time.sleep(0.002 * part[0]), done.append(part)), split(9, 0))
    assert len(done) == 9


def test_an_error_of_any_thread_reaches_the_caller(three):
    meeting, done = threading.Barrier(3, timeout=60), []

    def work(part):
        if part[0] < 3:
            meeting.wait()
        if threading.get_ident() != caller:
            raise MemoryError(f"no memory for {part}")
        done.append(part)

    caller = threading.get_ident()
    with pytest.raises(MemoryError, match="no memory for"):
        share(work, [(i, i + 1) for i in range(12)])
    assert done


def test_work_inside_of_work_ends(three):
    """All threads of the pool wait for inner work, of more ranges than there are threads."""
    done = []

    def outer(part):
        share(lambda inner: done.append((part, inner)), split(20, 0))

    parts = [(i, i + 1) for i in range(4 * (os.cpu_count() or 1))]
    share(outer, parts)
    assert len(set(done)) == len(done) == len(parts) * len(split(20, 0))


def test_many_callers_get_what_is_theirs(three):
    """There are more callers than threads in the pool."""
    sums = {}

    def call(number):
        found = []
        for _ in range(50):
            share(lambda part: found.append(sum(range(*part)) * number), split(40, 0))
        sums[number] = sum(found)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sums == {number: 50 * number * sum(range(40)) for number in range(8)}


def test_without_any_thread_the_caller_does_the_work(three, monkeypatch):
    """A pool that cannot start a thread may still hold the work, and begin it late."""

    class Full:
        def submit(self, work):
            late.append(work)
            raise RuntimeError("can't start new thread")

    late, done = [], []
    monkeypatch.setattr(threads, "_pool", Full)
    share(done.append, split(30, 0))
    assert sorted(done) == split(30, 0)
    for work in late:
        work()
    assert len(done) == len(split(30, 0))


@pytest.mark.slow
def test_forks_and_threads():
    """``tests.support.forked`` says what each line and variable means.

    OpenMP would not survive a fork.
    """
    shown = subprocess.run(
        [sys.executable, "-m", "tests.support.forked"],
        env={**os.environ, "NUMBA_THREADING_LAYER": "omp", "MKL_DISABLE_FAST_MM": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert shown.stdout.splitlines() == [
        "threads True",
        "fork True",
        "process True",
        "loaders True",
        "again True",
        "numba started no layer",
        "late True",
    ], shown.stderr
    assert shown.returncode == 0
