"""Jobs run side by side in processes of their own."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from postnms.experiments import jobs
from postnms.experiments.jobs import command_lines, failure, run_jobs
from postnms.experiments.state import Job

SCRIPT = """
import json, os, signal, sys, time
folder, name, kind = sys.argv[1:]
def note(event):
    with open(os.path.join(folder, "events"), "a") as file:
        file.write(json.dumps([name, event, time.monotonic()]) + "\\n")
def stop(number, _):
    note(f"signal {number}")
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
note("begin")
print("threads", os.environ["OMP_NUM_THREADS"], os.environ["NUMBA_NUM_THREADS"], flush=True)
if kind == "fail":
    print("\\n".join(f"line {n}" for n in range(20)))
    sys.exit(3)
if kind == "wait":
    time.sleep(60)
time.sleep(0.2 * (kind == "slow"))
note("end")
"""


@pytest.fixture
def do(tmp_path, monkeypatch):
    """Run jobs by (name, kind, after); return how they ended, the events and what was said."""
    monkeypatch.setattr(jobs, "_PATIENCE", 0.01)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def call(*described, **options):
        listed = [
            Job((str(tmp_path), name, kind), tmp_path / name, tmp_path / f"{name}.log",
                after and tmp_path / after)
            for name, kind, after in described
        ]  # fmt: skip
        said = []
        program = (sys.executable, str(script))
        ended = run_jobs(listed, say=said.append, program=program, **options)
        lines = (tmp_path / "events").read_text().splitlines()
        return ended, [json.loads(line) for line in lines], said

    return call


def test_jobs_run_in_their_order_with_their_threads_and_a_log(do, tmp_path):
    ended, events, said = do(("a", "fast", None), ("b", "fast", "a"), threads=3)
    assert [event[:2] for event in events] == [
        ["a", "begin"], ["a", "end"], ["b", "begin"], ["b", "end"],
    ]  # fmt: skip
    assert (ended.failed, ended.left_out, ended.stopped_by) == ([], [], None)
    log = (tmp_path / "a.log").read_text().splitlines()
    assert log == [f"$ postnms {tmp_path} a fast", "threads 3 3"]
    assert len(said) == 4
    assert said[1].endswith("jobs left: 1")


def test_a_number_of_jobs_run_at_a_time(do):
    _, events, _ = do(*[(name, "slow", None) for name in "abcd"], at_once=2)
    running = most = 0
    for _, event, _ in sorted(events, key=lambda event: event[2]):
        running += 1 if event == "begin" else -1
        most = max(most, running)
    assert (most, running) == (2, 0)


def test_a_job_that_fails_ends_only_those_that_wait_for_it(do, tmp_path):
    ended, events, said = do(
        ("a", "fail", None), ("b", "fast", "a"), ("c", "fast", "b"), ("d", "fast", None)
    )
    assert ended.failed == [tmp_path / "a"]
    assert ended.left_out == [tmp_path / "b", tmp_path / "c"]
    assert {event[0] for event in events} == {"a", "d"}
    (failed,) = [line for line in said if "failed" in line]
    assert f"failed (exit status 3), see {tmp_path / 'a.log'}:" in failed
    assert [line.strip() for line in failed.splitlines()[1:]] == [
        f"line {n}" for n in range(12, 20)
    ]
    assert failure(ended) == (
        f"failed: {tmp_path / 'a'}; left out, as they wait for these: "
        f"{tmp_path / 'b'}, {tmp_path / 'c'}"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_each_running_job_once_and_nothing_else_begins(do, tmp_path, number):
    handler = signal.getsignal(number)

    def send():
        deadline = time.monotonic() + 30
        events = tmp_path / "events"
        while time.monotonic() < deadline:
            if events.is_file() and events.read_text().count("begin") == 2:
                os.kill(os.getpid(), number)
                return
            time.sleep(0.01)

    sender = threading.Thread(target=send)
    sender.start()
    ended, events, said = do(*[(name, "wait", None) for name in "abc"], at_once=2)
    sender.join()
    assert ended.stopped_by == number
    assert ended.failed == []
    assert sorted(event[:2] for event in events if event[1] != "begin") == [
        ["a", f"signal {signal.SIGINT}"], ["b", f"signal {signal.SIGINT}"],
    ]  # fmt: skip
    assert [line.partition(": ")[2] for line in said[-2:]] == [f"{tmp_path} stopped"] * 2
    assert signal.getsignal(number) is handler


def test_an_error_here_leaves_no_process_behind(do, tmp_path, monkeypatch):
    def fail(seconds):
        while not (tmp_path / "events").is_file():
            time_sleep(0.01)
        raise RuntimeError("broken")

    time_sleep = time.sleep
    monkeypatch.setattr(jobs.time, "sleep", fail)
    with pytest.raises(RuntimeError, match="broken"):
        do(("a", "wait", None))
    assert "signal" in (tmp_path / "events").read_text()


def test_jobs_that_wait_for_each_other_stand_in_one_line(tmp_path):
    jobs = [
        Job(("train", name), tmp_path / name, tmp_path / "log", after and tmp_path / after)
        for name, after in (("a b", None), ("c", None), ("d", "a b"), ("e", "d"), ("f", "c"))
    ]
    assert command_lines(jobs) == [
        "postnms train 'a b' && postnms train d && postnms train e",
        "postnms train c && postnms train f",
    ]
    assert command_lines([]) == []
