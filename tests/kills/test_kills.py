"""Jobs that are killed at random moments end as if they had been left alone."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_killed_jobs_end_as_if_they_had_been_left_alone():
    words = ("--kills", "2", "--predictions", "2", "--each", "2", "--iterations", "8")
    job = [sys.executable, "-m", "tests.kills", *words]
    shown = subprocess.run(job, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert [line.split(" kills, ")[0] for line in lines] == [
        "training: 1 jobs, 2",
        "prediction: 1 jobs, 2",
    ]
    assert all(line.endswith("0 differences []") for line in lines)
