"""The memory of a call is measured in a process of its own, where the system tells it."""

import sys

import pytest

from postnms.speed import memory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_call_takes_at_least_its_result_and_not_its_scene_many_times():
    """The result alone is 8 bytes of assignment a box; the scene took about 200 to make."""
    assert 8 < memory.bytes_a_box(200_000) < 400


def test_a_system_that_does_not_tell_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_RESET", tmp_path / "no")
    assert memory.bytes_a_box(10) is None
