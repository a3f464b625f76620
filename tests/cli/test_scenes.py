"""``postnms scenes`` writes a data set that other verbs take."""

import json

from tests.support.runs import SETS


def test_scenes_are_written_and_can_be_trained_on(postnms, tmp_path):
    status, shown, _ = postnms(
        "scenes", "--out", tmp_path / "s", "--train", 4, "--val", 2, "--size", 64
    )
    assert status == 0
    assert "train 4 images" in shown
    assert len(list((tmp_path / "s" / "images").glob("*.png"))) == 6
    status, shown, _ = postnms(
        "train", "demo", "--data", tmp_path / "s", "--out", tmp_path / "run", *SETS
    )
    assert status == 0
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["data"] == "s"
