"""A folder is written to if it is new, empty, or marked as one's own."""

import pytest

from postnms.errors import UserError
from postnms.files.folders import check_own_folder


def test_new_empty_and_own_folders_are_fine(tmp_path):
    check_own_folder(tmp_path / "new", "mark.json", "a run")
    check_own_folder(tmp_path, "mark.json", "a run")
    for name in ("mark.json", "other.txt"):
        (tmp_path / name).write_text("")
    check_own_folder(tmp_path, "mark.json", "a run")


def test_another_folder_is_refused(tmp_path):
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(UserError, match=r"is not a run \(no mark.json\); name a new or an empty"):
        check_own_folder(tmp_path, "mark.json", "a run")
