"""A folder has one holder, which others can name, and which the system forgets when it dies."""

import json
import os
import subprocess
import sys

import pytest

from postnms.errors import UserError
from postnms.files.locks import hold_folder

HOLD = """
import os, sys, time
from pathlib import Path
from postnms.files.locks import hold_folder
with hold_folder(Path(sys.argv[1]), "a long job"):
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder, seconds=600, *words):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, str(seconds), *words], stdout=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    return process


def test_another_process_is_told_who_holds_the_folder(tmp_path):
    process = holder(tmp_path)
    message = rf"is in use by process {process.pid} on .* since 20.* \(a long job\); wait"
    with pytest.raises(UserError, match=message), hold_folder(tmp_path):
        pytest.fail("two processes hold the folder")
    process.kill()
    process.wait()


def test_a_killed_holder_holds_nothing_even_if_its_workers_live(tmp_path):
    process = holder(tmp_path, 600, "fork")
    process.kill()
    process.wait()
    assert (tmp_path / ".lock").is_file()
    with hold_folder(tmp_path, "the next job"):
        about = json.loads((tmp_path / ".lock").read_text())
        assert (about["process"], about["command"]) == (os.getpid(), "the next job")
    assert list(tmp_path.iterdir()) == []


def test_of_many_processes_one_holds_the_folder_at_a_time(tmp_path):
    code = """
import sys, time
from pathlib import Path
from postnms.errors import UserError
from postnms.files.locks import hold_folder
folder, end = Path(sys.argv[1]), time.time() + 1.5
while time.time() < end:
    try:
        with hold_folder(folder / "held"):
            with (folder / "alone").open("x"):
                pass
            (folder / "alone").unlink()
    except UserError:
        pass
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]


def test_a_holder_that_ends_leaves_nothing(tmp_path):
    process = holder(tmp_path / "new", 0)
    assert process.wait() == 0
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{", '{"process": 1}'])
def test_a_holder_that_says_nothing_is_another_process(tmp_path, content):
    process = holder(tmp_path)
    (tmp_path / ".lock").write_text(content)
    with pytest.raises(UserError, match="in use by another process"), hold_folder(tmp_path):
        pytest.fail("two processes hold the folder")
    process.kill()
    process.wait()
