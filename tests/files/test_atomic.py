"""Files that are written whole or not at all."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest

from postnms.errors import UserError
from postnms.files.atomic import atomic_path, hash_of, remove_leftovers, write_json, write_text


def test_a_file_is_written_whole(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "text")
    write_json(tmp_path / "new" / "b.json", {"x": [1, None]})
    assert (tmp_path / "new" / "a.txt").read_text() == "text"
    assert json.loads((tmp_path / "new" / "b.json").read_text()) == {"x": [1, None]}
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.txt", "b.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the new")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        UserError, match=r"a\.txt: could not be written \(.*No space left.*as it was"
    ):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_another_failure_passes_through_and_cleans_up(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a\.txt: could not be written"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_the_name_of_a_file_may_be_as_long_as_the_system_allows(tmp_path):
    name = "n" * 251 + ".txt"
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_text_is_utf8_whatever_the_locale(tmp_path):
    code = (
        "import sys; from pathlib import Path; from postnms.files.atomic import write_text; "
        "write_text(Path(sys.argv[1]), chr(0xF6))"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, tmp_path / "a.txt"]
    subprocess.run(command, env=environment, check=True)
    assert (tmp_path / "a.txt").read_bytes() == chr(0xF6).encode()


def test_content_and_name_are_on_the_disk_in_this_order(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(number):
        path = os.readlink(f"/proc/self/fd/{number}")
        steps.append("folder" if path == str(tmp_path) else "file")
        fsync(number)

    def watched_replace(*paths):
        steps.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_text(tmp_path / "a.txt", "text")
    assert steps == ["file", "rename", "folder"]


def test_an_older_file_is_kept_under_another_name(tmp_path):
    path, older = tmp_path / "a.txt", tmp_path / "older.txt"
    for text in ("1", "2", "3"):
        with atomic_path(path, older=older) as temporary:
            temporary.write_text(text)
    assert (path.read_text(), older.read_text()) == ("3", "2")


def test_leftovers_of_the_dead_are_removed_and_files_of_the_living_are_not(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from postnms.files.atomic import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(600)\n"
    )
    (tmp_path / "mine.tmp").write_text("")
    writer = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a.txt"], stdout=subprocess.PIPE
    )
    writer.stdout.readline()
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.glob(".postnms-*.tmp"))) == 1
    writer.kill()
    writer.communicate()
    assert len(list(tmp_path.glob(".postnms-*.tmp"))) == 1
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.tmp"]


def test_the_hash_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert hash_of(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()
