"""A folder is written to if it is new, empty, or marked as one's own."""

import pytest

from postnms.errors import UserError
from postnms.files.folders import Marker, check_own_folder, own_folder

MARK = Marker("mark.json", ("kind",))


def test_new_empty_and_own_folders_are_fine(tmp_path):
    check_own_folder(tmp_path / "new", "a run", MARK)
    check_own_folder(tmp_path, "a run", MARK)
    for name in (".lock", ".postnms-0123.tmp"):  # What a killed process leaves.
        (tmp_path / name).write_text("")
    check_own_folder(tmp_path, "a run", MARK)
    (tmp_path / "mark.json").write_text('{"kind": 1}')
    (tmp_path / "other.txt").write_text("")
    check_own_folder(tmp_path, "a run", Marker("no.json", ()), MARK)


@pytest.mark.parametrize("content", [None, "[]", '{"other": 1}'])
def test_another_folder_is_refused(tmp_path, content):
    (tmp_path / "other.txt").write_text("")
    if content:  # A file of the user with the name of the marker.
        (tmp_path / "mark.json").write_text(content)
    message = r"^out: .* is not a run \(no mark.json of this library\); name a new or an empty"
    with pytest.raises(UserError, match=message):
        check_own_folder(tmp_path, "a run", MARK)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^out: .*file: is a file; name a folder"):
        check_own_folder(tmp_path / "file", "a run", MARK)


def test_what_the_killed_have_left_is_removed(tmp_path):
    (tmp_path / ".postnms-0123.tmp").write_text("")
    with own_folder(tmp_path, "a run", MARK):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []
