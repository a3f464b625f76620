"""``postnms analyse`` shows what suppressors get wrong on a file of candidates."""

import json

from tests.support.builders import random_candidates
from tests.support.studies import picture_width, write_candidates, write_truth


def test_analyse_shows_and_writes_errors_and_placement(postnms, tmp_path):
    write_truth(tmp_path / "instances_val.json", 2)
    file, out = tmp_path / "c.safetensors", tmp_path / "out"
    write_candidates(file, random_candidates(50, 2, extra=False))
    status, shown, error = postnms(
        "analyse", file, "--data", tmp_path, "--suppressor", "nms,none", "--out", out
    )
    assert status == 0, error
    assert "localisation" in shown
    described = json.loads((out / "analyse.json").read_text())
    assert list(described["rows"]) == ["nms", "none"]
    assert len(described["placement"]["before"]["KeyIoU"]["histogram"]) == 20
    assert picture_width(out / "errors.png") > 1000
    assert picture_width(out / "placement.png") > 1000
