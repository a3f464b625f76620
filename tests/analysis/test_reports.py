"""Comparisons and analyses as CSV, JSON and charts in a folder."""

import csv
import dataclasses
import json

import pytest

from postnms.analysis.comparison import ComparedRow, compare
from postnms.analysis.diagnosis import analyse
from postnms.analysis.reports import write_analysis, write_comparison
from postnms.evaluation.calibration import BINS
from postnms.evaluation.metrics import FIGURES
from postnms.suppression import choose
from tests.support.studies import picture_width

ABOUT = {"commit": "abc", "seed": 3}


def test_a_comparison_is_a_table_a_description_and_a_chart(study, tmp_path):
    rows = compare(study, [choose("wbf"), choose("wbf:iou=0.4")], bootstrap=5)
    names = write_comparison(rows, ABOUT, tmp_path / "out")
    assert names == ("compare.csv", "compare.json", "compare.png")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    with (tmp_path / "out" / "compare.csv").open() as text:
        table = list(csv.DictReader(text))
    assert list(table[0]) == [
        "suppressor", *FIGURES, "milliseconds", "gain", "gain_low", "gain_high",
    ]  # fmt: skip
    described = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (described["commit"], described["seed"]) == ("abc", 3)
    for row, line, entry in zip(rows, table, described["rows"], strict=True):
        assert row.name == line["suppressor"] == entry["name"]
        for name in FIGURES:
            if row.figures[name] is None:
                assert (line[name], entry["figures"][name]) == ("", None)
            else:
                assert float(line[name]) == pytest.approx(row.figures[name], rel=1e-5)
                assert entry["figures"][name] == row.figures[name]
        assert float(line["gain_low"]) == pytest.approx(row.low, rel=1e-5)
        assert (entry["gain"], entry["low"], entry["high"]) == (row.gain, row.low, row.high)
        assert entry["milliseconds"] == row.milliseconds
    assert table[-1]["milliseconds"] == ""
    assert described["rows"][2]["settings"]["iou_threshold"] == 0.4
    assert described["rows"][0].keys() == {
        "name", "figures", "gain", "low", "high", "milliseconds", "settings", "cut", "uncounted",
    }  # fmt: skip
    assert picture_width(tmp_path / "out" / "compare.png") > 1000


def test_numbers_of_the_table_have_six_digits_and_what_is_undefined_is_empty(tmp_path):
    figures = dict.fromkeys(FIGURES, 1 / 3) | {"APS": None}
    row = ComparedRow("nms", figures, None, None, None, 1234567.0, {}, "nms", False)
    write_comparison([row], {}, tmp_path)
    _, line = (tmp_path / "compare.csv").read_text().splitlines()
    thirds = ["0.333333"] * 12
    thirds[FIGURES.index("APS")] = ""
    assert line == ",".join(["nms", *thirds, "1.23457e+06", "", "", ""])


def test_an_analysis_is_a_description_and_three_charts(study, tmp_path):
    analysis = analyse(study, [choose("nms"), choose("none")])
    names = write_analysis(analysis, ABOUT, tmp_path / "out")
    assert names == ("analyse.json", "errors.png", "reliability.png", "placement.png")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    described = json.loads((tmp_path / "out" / "analyse.json").read_text())
    assert (described["commit"], described["recall"]) == ("abc", analysis.recall)
    assert list(described["rows"]) == ["nms", "none"]
    row = analysis.rows["nms"]
    assert described["rows"]["nms"]["errors"]["counts"] == row.errors.counts
    assert described["rows"]["nms"]["max_recall"] == row.max_recall
    for name in ("nms", "none"):
        row, written = analysis.rows[name], described["rows"][name]
        assert written["best_f1"] == dataclasses.asdict(row.best_f1)
        assert written["duplicate_counts"] == dataclasses.asdict(row.duplicate_counts)
        assert written["calibration"]["error"] == row.calibration.error
        assert len(written["calibration"]["precisions"]) == BINS
    placement = described["placement"]
    assert placement["before"].keys() == {"KeyIoU", "MaxIoU", "AvgIoU"}
    assert len(placement["before"]["KeyIoU"]["histogram"]) == 20
    assert sum(placement["before"]["KeyIoU"]["histogram"]) == len(analysis.before.key)
    assert placement["before"]["MaxIoU"]["mean"] == pytest.approx(
        analysis.before.best.mean().item()
    )
    assert placement["after"] == {}
    for name in names[1:]:
        assert picture_width(tmp_path / "out" / name) > 1000
