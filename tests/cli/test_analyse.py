"""``postnms analyse`` shows what suppressors get wrong on a file of candidates."""

import json

from tests.support.studies import around_objects, picture_width, write_candidates, write_truth


def test_analyse_shows_and_writes_errors_and_placement(postnms, tmp_path):
    truth = write_truth(tmp_path / "instances_val.json", 2)
    file, out = tmp_path / "c.safetensors", tmp_path / "out"
    write_candidates(file, around_objects(truth, (10, 11)))
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
    assert picture_width(out / "reliability.png") > 1000
    row = described["rows"]["none"]
    assert "calibration error" in shown
    for number in (row["calibration"]["error"], row["best_f1"]["score"]):
        assert f"{number:.3f}" in shown
    assert f"{row['duplicate_counts']['an_image']:.2f}" in shown
