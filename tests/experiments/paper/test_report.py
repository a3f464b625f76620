"""The paper's figures beside ours: gains, signs, and what is not known."""

import dataclasses
import json
import math

import pytest

from postnms.experiments.comparison import Comparison
from postnms.experiments.finished import read_all_finished
from postnms.experiments.intervals import Estimate
from postnms.experiments.paper.pages import REPRODUCED, write_reproduction
from postnms.experiments.paper.printed import PaperRow
from postnms.experiments.paper.report import (
    Line,
    cells_of,
    heads_of,
    lines_of,
    same_sign,
    section,
    sentence,
)
from postnms.experiments.plan import Side
from tests.support.experiments import finish, write_data
from tests.support.reproductions import plan_of


def gain(low, mean, high):
    return Estimate((mean,), mean, low, high)


@pytest.mark.parametrize(
    ("paper", "ours", "sign"),
    [
        (1.9, gain(0.2, 1.0, 1.8), "yes"),
        (-0.7, gain(-1.8, -1.0, -0.2), "yes"),
        (1.9, gain(-1.8, -1.0, -0.2), "no"),
        (-0.7, gain(0.2, 1.0, 1.8), "no"),
        (1.9, gain(-0.2, 1.0, 1.8), "unclear"),
        (-0.7, gain(-0.2, 1.0, 1.8), "unclear"),
        (1.9, gain(0.0, 1.0, 1.8), "unclear"),
        (1.9, gain(-1.0, -0.5, 0.0), "unclear"),
        (0.0, gain(0.2, 1.0, 1.8), "-"),
        (None, gain(0.2, 1.0, 1.8), "-"),
        (1.9, None, "-"),
        (1.9, gain(None, 1.0, None), "-"),
        (1.9, gain(0.0, 0.0, 0.0), "-"),
        (1.9, gain(-0.2, 0.0, 0.2), "unclear"),
    ],
)
def test_signs(paper, ours, sign):
    assert same_sign(paper, ours) == sign


def line(paper, ours):
    row = PaperRow("x", "a.nms", {"AP": 38.6}, "y")
    return Line(row, (0, 1), {"AP": (70.0, 71.0)}, paper, ours, 2)


def test_a_line_as_text():
    assert cells_of(line(1.9, gain(0.21, 1.0, 1.8))) == [
        "x", "38.6", "70.5 ± 0.7", "+1.9", "+1.00", "+0.21 to +1.80", "yes"
    ]  # fmt: skip
    row = PaperRow("mine", "a.nms")
    assert cells_of(Line(row, (), {"AP": ()}, None, None, 2)) == ["mine", *["-"] * 6]


def test_a_line_says_that_some_of_its_seeds_are_missing():
    some = dataclasses.replace(line(1.9, gain(0.21, 1.0, 1.8)), planned=3)
    assert cells_of(some)[:3] == ["x (2 of 3 seeds)", "38.6", "70.5 ± 0.7"]


def test_a_gain_on_images_without_objects_is_a_dash():
    without = line(1.9, Estimate((math.nan,), math.nan, None, None))
    assert cells_of(without)[-4:] == ["+1.9", "-", "-", "-"]
    nothing = {"per_seed": [None], "mean": None, "low": None, "high": None}
    assert without.to_json()["gain"] == nothing


def test_the_sentence_counts_rows_with_a_gain_in_the_paper():
    lines = [line(1.9, gain(1, 2, 3)), line(-1.0, gain(1, 2, 3)), line(1.0, gain(-1, 1, 2)),
             line(0.0, gain(1, 2, 3)), line(None, gain(1, 2, 3))]  # fmt: skip
    text = "The sign of the gain is the paper's in 1 of 3 rows, unclear in 1 and another one in 1"
    assert sentence(lines) == f"{text}."
    assert sentence([*lines, line(1.0, gain(0.0, 0.0, 0.0))]) == f"{text}."
    more = [*lines, line(1.0, None)]
    assert sentence(more) == f"{text.replace('of 3', 'of 4')}; rows without an interval: 1."


@pytest.fixture
def done(tmp_path):
    """Table 3 with runs that are written by hand, with two seeds and without one of the arms."""
    data, truth, results = write_data(tmp_path)
    one, plan = plan_of("table3", tmp_path / "runs", data, scale="small", seeds=2)
    for run in plan.runs:
        if run.arm != "without_cef":
            finish(plan, run, truth, results)
    return one, Comparison(plan, read_all_finished(plan))


def test_lines_have_the_figures_of_the_runs(done):
    one, comparison = done
    found = {part.row.label: part for part in lines_of(comparison, one.table)}
    assert list(found) == [row.label for row in one.table.rows]
    full = found["full, post-NMS"]
    aps = [run.figures("post_nms")["AP"] for run in comparison.of_arm("paper")]
    bare = [run.figures("nms")["AP"] for run in comparison.of_arm("bare")]
    assert full.ours == {"AP": tuple(aps)}
    assert full.seeds == (0, 1)
    assert full.paper_gain == 1.9
    assert full.gain == comparison.difference(Side("paper", "post_nms"), Side("bare", "nms"))
    assert full.gain.mean == pytest.approx(sum(aps) / 2 - sum(bare) / 2)
    assert found["w/o DCL, post-NMS"].paper_gain == -2.6  # 36.0 - 38.6: against the full stage.
    assert found["w/o CEF, NMS"].gain is None
    assert cells_of(found["w/o CEF, NMS"])[2:] == ["-", "+0.0", "-", "-", "-"]
    assert found["baseline, NMS"].paper_gain is None


def test_the_page_has_the_table_and_its_records(done, tmp_path):
    one, comparison = done
    path = tmp_path / "table3.md"
    write_reproduction(path, comparison, one.table, "postnms reproduce table3")
    text = path.read_text()
    lines = lines_of(comparison, one.table)
    title = "# The paper's Table 3: parts of the stage"
    assert text.startswith(f"{REPRODUCED}\n{title}\n\n**{sentence(lines)}**\n\n")
    for part in section(one.table, lines):
        assert part in text
    assert f"| {' | '.join(heads_of(one.table))} |" in text
    assert text.count("The sign of the gain is the paper's in ") == 1
    assert '"full, post-NMS" for "w/o DCL, post-NMS", "w/o CEF, post-NMS",' in text
    assert "**Not finished: `without_cef_0` and `without_cef_1`.**" in text
    summary = json.loads((tmp_path / "table3" / "summary.json").read_text())
    assert summary["table"] == json.loads(json.dumps([part.to_json() for part in lines]))
    assert len(list((tmp_path / "table3").glob("paper_*.json"))) == 2
