"""Files of tensors are read back as they were written, or refused: no damage goes unseen."""

import errno
import json
import os
import stat

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from postnms.errors import UserError
from postnms.files import tensor_files
from postnms.files.tensor_files import is_tensor_file, load_tensors, save_tensors

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).view(2, 3),
    "half": torch.tensor([1.5, -2], dtype=torch.bfloat16),
    "scalar": torch.tensor(7),
    "none": torch.zeros(0, 4),
    "flag": torch.tensor([True, False]),
}
ABOUT = {"finished": 3, "recipe": {"name": "demo"}}


@pytest.fixture
def path(tmp_path):
    save_tensors(tmp_path / "state.safetensors", TENSORS, ABOUT)
    return tmp_path / "state.safetensors"


def test_tensors_and_facts_are_read_back(path):
    tensors, about = load_tensors(path)
    assert about == ABOUT
    assert sorted(tensors) == sorted(TENSORS)
    for name, tensor in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(tensors[name], tensor)


def test_the_same_content_gives_the_same_bytes(path):
    content = path.read_bytes()
    for _ in range(20):
        save_tensors(path, TENSORS, ABOUT)
        assert path.read_bytes() == content
    assert int.from_bytes(content[:8], "little") % 8 == 0


def test_every_single_bit_counts(path):
    content = path.read_bytes()
    for byte in range(len(content)):
        damaged = bytearray(content)
        damaged[byte] ^= 1 << (byte % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"state\.safetensors: "):
            load_tensors(path)
    path.write_bytes(content)
    assert load_tensors(path)[1] == ABOUT


def test_a_file_that_others_have_changed_is_refused(path):
    tensors, _ = load_tensors(path)
    facts = json.dumps(ABOUT)
    right = {
        "format": "postnms-2",
        "about": facts,
        "sha256": tensor_files._checksum(TENSORS, facts),
    }
    save_file(tensors, path, right)
    assert load_tensors(path)[1] == ABOUT
    changes = {
        "another value": ({**tensors, "scalar": torch.tensor(8)}, right),
        "another name": ({**tensors, "b": torch.zeros(1)}, right),
        "one tensor less": ({name: tensors[name] for name in tensors if name != "none"}, right),
        "another shape": ({**tensors, "a": tensors["a"].view(3, 2).contiguous()}, right),
        "another dtype": ({**tensors, "scalar": torch.tensor(7).view(torch.float64)}, right),
        "other facts": (tensors, {**right, "about": "{}"}),
        "no checksum": (tensors, {name: right[name] for name in ("format", "about")}),
    }
    for others, metadata in changes.values():
        save_file(others, path, metadata)
        with pytest.raises(UserError, match=r"state\.safetensors: is damaged"):
            load_tensors(path)


def test_foreign_and_broken_files(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match=r"x\.safetensors: no such file"):
        load_tensors(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(UserError, match="expected format 'postnms-2', got None"):
        load_tensors(path)
    assert not is_tensor_file(path)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_tensors(path)
    assert not is_tensor_file(path)
    save_tensors(path, {"a": torch.ones(1000)}, {})
    assert is_tensor_file(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_tensors(path)


def test_an_older_format_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1)}, path, {"format": "postnms-1", "about": "{}"})
    assert is_tensor_file(path)
    with pytest.raises(UserError, match="expected format 'postnms-2', got 'postnms-1'"):
        load_tensors(path)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left")]
)
def test_a_full_disk_keeps_the_older_files(path, monkeypatch, error):
    older = path.with_name("older.safetensors")

    def fill(*_):
        raise error

    monkeypatch.setattr(tensor_files, "save", fill)
    with pytest.raises((UserError, SafetensorError), match="No space left"):
        save_tensors(path, {"a": torch.zeros(2)}, {}, older=older)
    monkeypatch.undo()
    assert load_tensors(path)[1] == ABOUT
    assert [file.name for file in path.parent.iterdir()] == ["state.safetensors"]


def test_the_file_before_is_kept(path):
    older = path.with_name("older.safetensors")
    for number in range(3):
        save_tensors(path, TENSORS, {"finished": number}, older=older)
    assert [load_tensors(file)[1]["finished"] for file in (path, older)] == [2, 1]
    assert sorted(file.name for file in path.parent.iterdir()) == [older.name, path.name]


def test_others_may_read_a_file_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        save_tensors(tmp_path / "x.safetensors", TENSORS, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == 0o640
