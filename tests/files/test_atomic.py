"""Files that are written whole or not at all."""

import errno
import hashlib
import json

import pytest

from postnms.errors import UserError
from postnms.files.atomic import atomic_path, hash_of, write_json, write_text


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


def test_the_hash_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert hash_of(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()
