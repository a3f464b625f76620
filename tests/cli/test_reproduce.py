"""``postnms reproduce`` prints the paper's figures beside ours, and makes the runs they need."""

import json
import re
import shlex
import shutil

import pytest

from postnms.experiments.paper.pages import REPRODUCED
from tests.support.experiments import finish, write_data
from tests.support.reproductions import plan_of

TINY = [
    "detector.min_size=64",
    "detector.backbone.fpn_channels=8",
    "detector.box_head_width=8",
    "detector.rpn_post_nms_top_n_train=50",
    "stage.width=8",
    "training.iterations=2",
    "training.steps=[2]",
    "training.batch_size=2",
    "evaluation.bootstrap=0",
]
SETS = [word for change in TINY for word in ("--set", change)]


def call(*words):
    return ("reproduce", *words, "--scale", "small")


@pytest.fixture
def scenes(postnms, tmp_path, monkeypatch):
    """A small data folder in the present folder."""
    monkeypatch.chdir(tmp_path)
    size = ("--train", 6, "--val", 3, "--size", 64)
    assert postnms("scenes", "--out", "scenes", *size)[0] == 0
    return "scenes"


def test_a_table_and_the_figure_come_from_the_runs_that_the_commands_make(
    postnms, scenes, tmp_path
):
    """Every command runs here as it is printed. Table 6 and Figure 2 share run and candidates."""
    words = call("table6", "figure2", "--data", scenes, "--seeds", 1, *SETS)
    printed = postnms(*words, "--commands")[1].splitlines()
    assert len(printed) == 1
    commands = [shlex.split(command)[1:] for command in printed[0].split(" && ")]
    assert [command[0] for command in commands] == ["train", "dump"]
    for command in commands:
        assert postnms(*command)[0] == 0
    assert postnms(*words, "--commands") == (0, "", "")
    status, shown, error = postnms(*words, "--page", "pages")
    assert (status, error) == (0, "")
    lines = shown.splitlines()
    assert lines[0] == "jobs to do: 0, for 1 runs"
    metrics = json.loads((tmp_path / "runs/paper_small/paper_0/metrics.json").read_text())
    ap = f"{metrics['post_nms']['AP']:.1f}"
    (moved,) = [line.split() for line in lines if line.startswith("(0.8, 0.1, 0.1), moved")]
    assert moved[4:7] == ["38.6", ap, "+1.6"]
    (plain,) = [line.split() for line in lines if line.startswith("(1, 0, 0), not moved")]
    assert plain[5:] == ["37.0", f"{metrics['nms']['AP']:.1f}", "-", "-", "-", "-"]
    assert any(line.startswith("The sign of the gain is the paper's in ") for line in lines)
    summary = json.loads((tmp_path / "pages/figure2/summary.json").read_text())
    (placement,) = summary["placement"]
    for side in ("before", "after"):
        for name in ("KeyIoU", "MaxIoU", "AvgIoU"):
            histogram = placement[side][name]["histogram"]
            assert (len(histogram), sum(histogram)) == (20, sum(placement["clusters"]))
    assert any(line.startswith("KeyIoU ") for line in lines)
    page = (tmp_path / "pages/figure2.md").read_text()
    assert page.startswith(REPRODUCED)
    assert "![KeyIoU, MaxIoU and AvgIoU](figure2/placement_paper.png)" in page
    assert (tmp_path / "pages/figure2/placement_paper.png").is_file()


def test_commands_of_several_tables_have_each_run_once(postnms, tmp_path):
    tables = ("table3", "table4", "table5", "table6", "figure2")
    status, shown, error = postnms(*call(*tables, "--data", tmp_path, "--commands"))
    assert (status, error) == (0, "")
    words = [shlex.split(line.replace("&&", "")) for line in shown.splitlines()]
    made = [line[line.index("--out") + 1] for line in words]
    arms = ["bare", "without_dcl", "without_cef", "without_irc", "without_iac", "paper",
            "intersection", "mean", "vote", "weighting_none", "weighting_cls",
            "weighting_loc"]  # fmt: skip
    expected = [f"runs/paper_small/{arm}_{seed}" for seed in range(3) for arm in arms]
    assert sorted(made) == sorted(expected)
    dumps = [line for line in shown.splitlines() if "postnms dump" in line]
    assert len(dumps) == 3
    assert all(line.startswith("postnms train") and "/paper_" in line for line in dumps)


@pytest.fixture
def by_hand(tmp_path, monkeypatch):
    """Table 5 with runs that are written by hand, but for one arm."""
    monkeypatch.chdir(tmp_path)
    data, truth, results = write_data(tmp_path)
    plan = plan_of("table5", tmp_path / "mine", data, scale="small", seeds=2)[1]
    for run in plan.runs:
        if run.arm != "weighting_loc":
            finish(plan, run, truth, results)
    return call("table5", "--data", "cells", "--seeds", 2, "--runs", "mine")


def test_finished_runs_are_shown_and_others_are_named(postnms, by_hand, tmp_path):
    status, shown, error = postnms(*by_hand, "--page-only", "--page", "t.md")
    assert (status, error) == (0, "")
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["none", "cls", "loc", "all"]
    assert lines[4].split() == ["loc", "38.4", "-", "52.9", "-", "+0.9", "-", "-", "-"]
    assert lines[6].endswith("; rows without an interval: 1.")
    assert lines[7] == "not finished: weighting_loc_0, weighting_loc_1"
    assert lines[8] == "t.md: the page, with the records of its runs in t"
    summary = json.loads((tmp_path / "t/summary.json").read_text())
    first = summary["table"][0]
    assert first["paper"] == {"AP": 37.5, "AR100": 51.9}
    files = [tmp_path / f"mine/weighting_none_{seed}/metrics.json" for seed in (0, 1)]
    metrics = [json.loads(file.read_text())["post_nms"] for file in files]
    assert first["ours"] == {name: [part[name] for part in metrics] for name in ("AP", "AR100")}


def test_a_table_is_shown_from_its_records(postnms, by_hand, tmp_path):
    """Neither the runs nor the data are needed for it."""
    before = postnms(*by_hand, "--page-only", "--page", "t.md")[1]
    page = (tmp_path / "t.md").read_text()
    shutil.rmtree(tmp_path / "mine")
    shutil.rmtree(tmp_path / "cells")
    status, shown, error = postnms(*by_hand, "--page-only", "--page", "t.md", "--recorded")
    assert (status, error) == (0, "")
    assert re.sub(r"\d\.\d\d", "x", shown) == re.sub(r"\d\.\d\d", "x", before)
    assert len((tmp_path / "t.md").read_text()) - len(page) == len(" --recorded")


def test_runs_of_other_settings_or_data_are_refused(postnms, by_hand, tmp_path):
    status, _, error = postnms(*by_hand, "--set", "training.lr=0.5")
    assert (status, error.count("\n")) == (2, 1)
    assert "mine/weighting_none_0: holds another run" in error
    assert "training.lr: 0.5 here, 0.02 there" in error
    (tmp_path / "other").mkdir()
    words = [word if word != "cells" else "other" for word in by_hand]
    status, _, error = postnms(*words)
    assert (status, error.count("\n")) == (2, 1)
    assert "expected a run on other, got one on cells" in error


MISTAKES = {
    "no table 'tabel1' (did you mean 'table1'?)": ("tabel1", "--data", "."),
    "--data: nowhere: no such data folder": ("table1", "--data", "nowhere"),
    "--recorded: expected --page": ("table1", "--data", ".", "--recorded"),
    "--seeds: expected at least 1, got 0": ("table1", "--data", ".", "--seeds", 0),
    "--set: lr: expected PATH=VALUE": ("table1", "--data", ".", "--set", "lr"),
    "--page: x.md: expected a folder": ("table1", "table3", "--data", ".", "--page", "x.md"),
    "--page: mine.md: is there and is no page of 'reproduce'": (
        "table1", "--data", ".", "--page", "mine.md"
    ),
    "runs/paper_small: no run of table3 is finished": ("table3", "--data", ".", "--page-only"),
}  # fmt: skip


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_one_line(postnms, tmp_path, monkeypatch, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.md").write_text("mine")
    status, shown, error = postnms(*call(*MISTAKES[message]))
    assert (status, shown, error.count("\n")) == (2, "", 1)
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["mine.md"]
