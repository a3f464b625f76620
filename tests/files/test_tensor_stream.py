"""Tensors that grow in a file of safetensors."""

import errno

import numpy as np
import pytest
from safetensors.numpy import load_file

from postnms.errors import UserError
from postnms.files import tensor_stream
from postnms.files.tensor_stream import TensorStream


def some(rows, start=0):
    numbers = np.arange(start, start + rows)
    return {
        "odd": numbers.astype("<i4"),
        "wide": numbers.astype("<i8"),
        "square": np.stack([numbers] * 2, 1).astype("<f4"),
    }


def test_what_was_appended_is_one_tensor_and_aligned(tmp_path):
    path = tmp_path / "new" / "x.safetensors"
    with TensorStream(path) as stream:
        assert stream.rows("odd") is None
        for part in (some(3), some(0), some(2, 3)):
            stream.append(part)
        assert stream.rows("odd") == 5
        stream.write({"a": "é"})
    read = load_file(path)
    assert read.keys() == some(0).keys()
    for name, wanted in some(5).items():
        np.testing.assert_array_equal(read[name], wanted)
        assert read[name].dtype == wanted.dtype
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    assert begin % 8 == 0
    assert content[begin : begin + 40] == some(5)["wide"].tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"more": np.zeros(1, "<f4")},
            r"more: expected nothing as in what was added first, got F32 rows of shape \(\)",
        ),
        (
            {"square": np.zeros((1, 3), "<f4")},
            r"square: expected F32 rows of shape \(2,\) .*got F32 rows of shape \(3,\)",
        ),
        ({"odd": np.zeros(1, "<i8")}, r"odd: expected I32 .*got I64"),
    ],
)
def test_other_tensors_than_before_change_nothing(tmp_path, change, message):
    path = tmp_path / "x.safetensors"
    with TensorStream(path) as stream:
        stream.append(some(2))
        with pytest.raises(ValueError, match=message):
            stream.append(some(1) | change)
        with pytest.raises(ValueError, match=r"square: expected F32 .*got nothing"):
            stream.append({name: part for name, part in some(1).items() if name != "square"})
        stream.write({})
    assert {len(tensor) for tensor in load_file(path).values()} == {2}


class FullDisk:
    def __init__(self, **_):
        """As a temporary file."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Closed."""

    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    path.write_text("old")

    def fill(_column, whole):
        whole.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, TensorStream(path) as stream:
        stream.append(some(2))
        patch.setattr(tensor_stream, "copyfileobj", fill)
        with pytest.raises(
            UserError, match=r"x\.safetensors: could not be written \(.*No space left"
        ):
            stream.write({})
    monkeypatch.setattr(tensor_stream.tempfile, "TemporaryFile", FullDisk)
    with (
        TensorStream(path) as stream,
        pytest.raises(UserError, match=r"x\.safetensors: could not .*No space left"),
    ):
        stream.append(some(2))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    stream = TensorStream(tmp_path / "file" / "x.safetensors")
    with stream, pytest.raises(UserError, match=r"x\.safetensors: could not be written"):
        stream.append(some(1))


def test_further_tensors_are_written_as_they_are(tmp_path):
    path = tmp_path / "a.safetensors"
    with TensorStream(path) as stream:
        stream.append({"a": np.arange(3, dtype=np.int64)})
        stream.append({"a": np.arange(2, dtype=np.int64)})
        stream.write({}, {"text": np.frombuffer(b"hello", np.uint8), "b": np.ones((2, 3), "<f4")})
    written = load_file(path)
    assert written["a"].tolist() == [0, 1, 2, 0, 1]
    assert written["text"].tobytes() == b"hello"
    assert written["b"].tolist() == [[1, 1, 1]] * 2
