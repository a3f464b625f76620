"""``postnms experiment`` runs what a file describes, goes on with it, and writes a page."""

import json
import shlex
import shutil
import sys

import pytest
import yaml

from postnms.experiments import jobs
from postnms.experiments.page import MADE_BY
from tests.support.experiments import finished_plan
from tests.support.runs import TINY, contents

FIELDS = {
    "title": "Tiny",
    "recipe": "demo",
    "set": [*TINY, "training.iterations=2"],
    "seeds": [0],
    "arms": {"bare": {"set": ["stage=null"]}, "stage": {}},
    "differences": [["stage.post_nms", "bare.nms"]],
    "bootstrap": 10,
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The file of an experiment whose runs are those of the fixtures of trained runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(FIELDS))
    return "tiny.yaml"


def test_a_stopped_run_goes_on_and_the_page_is_made(
    postnms, file, trained_run, trained_bare_run, tmp_path
):
    """The run of one arm is finished, and that of the other one has its last checkpoint alone."""
    root = tmp_path / "runs" / "tiny"
    shutil.copytree(trained_bare_run, root / "bare_0")
    shutil.copytree(trained_run, root / "stage_0")
    before = contents(root / "stage_0")
    for name in ("metrics.json", "weights.safetensors"):
        (root / "stage_0" / name).unlink()
    status, shown, error = postnms("experiment", file, "--page", "docs")
    assert status == 0, (shown, error)
    assert "jobs to do: 1, for 2 runs" in shown
    assert contents(root / "stage_0") == before
    log = (root / "stage_0.log").read_text()
    assert log.startswith("$ postnms train --resume runs/tiny/stage_0\n")
    page = (tmp_path / "docs" / "tiny.md").read_text()
    record = json.loads((tmp_path / "docs" / "tiny" / "stage_0.json").read_text())
    assert record["rows"] == {row: before["metrics.json"][row] for row in ("nms", "post_nms")}
    assert len(record["resumed"]) == 1
    assert "; then `python -m postnms train --resume runs/tiny/stage_0`" in page
    status, shown, _ = postnms("experiment", file, "--page", "docs")
    assert (status, "jobs to do: 0, for 2 runs" in shown) == (0, True)


def test_commands_are_what_is_left_to_do_and_nothing_runs(postnms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arms = {"late": {"start_from": "stage", "freeze": "detector"}, **FIELDS["arms"]}
    heuristics = {"arms": ["late"], "methods": ["wbf", "nms:iou=0.6"]}
    fields = {**FIELDS, "arms": arms, "heuristics": heuristics, "set": ["training.steps=[2, 3]"]}
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    status, shown, error = postnms("experiment", "many.yaml", "--commands", "--data", "my data")
    assert (status, error) == (0, "")
    bare, stage = shown.splitlines()
    assert "&&" not in bare
    lines = [shlex.split(line) for line in (bare, *stage.split(" && "))]
    assert {line[0] for line in lines} == {"postnms"}
    assert [(line[1], line[line.index("--out") + 1]) for line in lines] == [
        ("train", "runs/many/bare_0"),
        ("train", "runs/many/stage_0"),
        ("train", "runs/many/late_0"),
        ("dump", "runs/many/late_0.safetensors"),
        ("compare", "runs/many/late_0_compared"),
    ]
    assert lines[2] == [
        "postnms", "train", "demo", "--data", "my data", "--out", "runs/many/late_0",
        "--from", "runs/many/stage_0", "--freeze", "detector",
        "--set", "training.steps=[2, 3]", "--set", "seed=0",
    ]  # fmt: skip
    assert {line[line.index("--data") + 1] for line in lines} == {"my data"}
    assert not (tmp_path / "runs").exists()


def test_the_verbs_take_the_commands_of_heuristics(postnms, file, trained_run, tmp_path):
    """``dump`` and ``compare`` run here as they are printed, and then nothing is left to do."""
    fields = {
        **FIELDS,
        "arms": {"stage": {}},
        "differences": [["stage.nms", "stage.best_heuristic"]],
    }
    fields["heuristics"] = {"arms": ["stage"], "methods": ["soft_nms_linear"]}
    (tmp_path / file).write_text(yaml.safe_dump(fields))
    shutil.copytree(trained_run, tmp_path / "runs" / "tiny" / "stage_0")
    printed = postnms("experiment", file, "--commands")[1].splitlines()
    assert len(printed) == 1
    for command in printed[0].split(" && "):
        assert postnms(*shlex.split(command)[1:])[0] == 0
    assert postnms("experiment", file, "--commands") == (0, "", "")
    status, shown, error = postnms("experiment", file)
    assert status == 0, error
    assert "jobs to do: 0" in shown
    page = (tmp_path / "runs" / "tiny" / "page.md").read_text()
    assert "| `stage`, NMS | `stage`, `soft_nms_linear`, the best suppressor |" in page


def test_a_run_that_fails_is_named_with_the_end_of_its_log(postnms, file, tmp_path, monkeypatch):
    code = "import sys; print('no such luck'); sys.exit('bare_0' in ' '.join(sys.argv))"
    monkeypatch.setattr(jobs, "PROGRAM", (sys.executable, "-c", code))
    monkeypatch.setattr(jobs.run_jobs, "__kwdefaults__", {
        **jobs.run_jobs.__kwdefaults__, "program": (sys.executable, "-c", code)})  # fmt: skip
    status, shown, error = postnms("experiment", file, "--jobs", 2)
    assert status == 1
    assert "runs/tiny/bare_0: train failed (exit status 1), see runs/tiny/bare_0.log:" in shown
    assert "\n    no such luck\n" in shown
    assert error == (
        "postnms: failed: runs/tiny/bare_0; no page is made (--page-only makes one of the finished "
        "runs)\n"
    )
    assert not (tmp_path / "runs" / "tiny" / "page.md").exists()


def test_a_signal_says_how_to_go_on(postnms, file, monkeypatch):
    def stopped(left, **_):
        return jobs.Ended(stopped_by=2)

    monkeypatch.setattr(jobs, "run_jobs", stopped)
    status, _, error = postnms("experiment", file, "--jobs", 2)
    assert status == 130
    assert error == f"stopped; go on with: postnms experiment {file} --jobs 2\n"


def test_several_files_have_folders_and_pages_of_their_own(postnms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        plan, _, _ = finished_plan(tmp_path / name, seeds=[0], title=f"Page {name}")
        file = tmp_path / f"{name}.yaml"
        text = plan.experiment.path.read_text()
        file.write_text(text + f"data: {name}/cells\n")
        (tmp_path / "out").mkdir(exist_ok=True)
        plan.folder.rename(tmp_path / "out" / name)
    files = ("a.yaml", "b.yaml")
    status, shown, error = postnms("experiment", *files, "--out", "out", "--page", "pages")
    assert status == 0, (shown, error)
    for name in ("a", "b"):
        page = tmp_path / "pages" / f"{name}.md"
        assert page.read_text().startswith(f"{MADE_BY}\n# Page {name}\n")
        assert (tmp_path / "pages" / name / "bare_0.json").is_file()
    wrong = {
        ("--page", "one.md"): "--page: one.md: expected a folder for several pages",
        ("a.yaml",): "a.yaml: expected files of different names, got a twice",
    }
    for words, message in wrong.items():
        assert message in postnms("experiment", *files, *words)[2]


def test_the_page_of_the_finished_runs_is_made_beside_others_that_are_not(
    postnms, tmp_path, monkeypatch
):
    plan, _, _ = finished_plan(tmp_path, text="")
    monkeypatch.chdir(tmp_path)
    plan.of_arm("stage")[1].folder.metrics.unlink()
    words = ("mine.yaml", "--out", ".", "--data", "cells")
    status, shown, error = postnms("experiment", *words, "--page-only")
    assert (status, error) == (0, "")
    assert shown.splitlines() == [
        "mine/page.md: the page of 3 runs, with their records in mine/page",
        "not finished: stage_3",
    ]
    page = (tmp_path / "mine" / "page.md").read_text()
    assert "**Not finished: `stage_3`.**" in page
    assert not (tmp_path / "mine" / "page" / "stage_3.json").exists()
    status, shown, _ = postnms("experiment", *words, "--only", "bare")
    assert status == 0
    assert shown.splitlines() == [
        "jobs to do: 0, for 4 runs",
        "mine: jobs left for other arms: 1; no page is made (--page-only makes one of the finished "
        "runs)",
    ]


def test_a_page_is_made_of_records_where_the_runs_are_not(postnms, tmp_path, monkeypatch):
    finished_plan(tmp_path, text="")
    monkeypatch.chdir(tmp_path)
    words = ("mine.yaml", "--out", ".", "--data", "cells", "--page", "page.md")
    assert postnms("experiment", *words)[0] == 0
    shutil.rmtree("mine")
    shutil.rmtree("cells")
    assert "no run of mine.yaml is finished" in postnms("experiment", *words, "--page-only")[2]
    status, shown, error = postnms("experiment", *words, "--recorded")
    assert (status, error) == (0, "")
    assert shown.splitlines() == [
        "jobs to do: 0, for 4 runs",
        "page.md: the page of 4 runs, with their records in page",
    ]
    (tmp_path / "page" / "bare_0.json").unlink()
    (command,) = postnms("experiment", *words, "--recorded", "--commands")[1].splitlines()
    assert "--out mine/bare_0 " in command


def test_some_arms_can_be_asked_for(postnms, file):
    printed = postnms("experiment", file, "--commands", "--only", "bare")[1].splitlines()
    assert ["runs/tiny/bare_0" in line for line in printed] == [True]
    status, _, error = postnms("experiment", file, "--only", "bear")
    assert (status, error) == (2, "postnms: --only: no arm 'bear' (did you mean 'bare'?)\n")


def test_data_folders_are_replaced_by_their_names(postnms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, folder in (("a", "data/cells"), ("b", "data/fish")):
        fields = {**FIELDS, "data": folder, "arms": {"stage": {}}, "differences": []}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(fields))
    words = ("experiment", "a.yaml", "b.yaml", "--commands")

    def folders(*data):
        lines = [shlex.split(line) for line in postnms(*words, *data)[1].splitlines()]
        return [line[line.index("--data") + 1] for line in lines]

    assert folders() == ["data/cells", "data/fish"]
    assert folders("--data", "fish=/x=y") == ["data/cells", "/x=y"]
    assert folders("--data", "./fish=x") == ["fish=x"] * 2
    wrong = {
        ("fishes=x",): "--data: fishes=x: expected the name of a data folder of the files, which "
        "have cells, fish",
        ("x", "cells=y"): "--data: cells=y: expected one folder for a.yaml, got x as well",
    }
    for texts, message in wrong.items():
        data = [word for text in texts for word in ("--data", text)]
        assert postnms(*words, *data)[::2] == (2, f"postnms: {message}\n")


def test_a_folder_and_a_page_of_the_user_stay_as_they_are(postnms, file, tmp_path):
    mine = tmp_path / "runs" / "tiny" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    status, _, error = postnms("experiment", file)
    assert status == 2
    assert "--out: runs/tiny: holds files, and is not the folder of an experiment" in error
    (tmp_path / "README.md").write_text("mine")
    status, _, error = postnms("experiment", file, "--page", "README.md")
    assert (status, "--page: README.md: is there and is no page" in error) == (2, True)
    assert [path.name for path in mine.parent.iterdir()] == ["notes.txt"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_mistake_in_the_file_is_one_line(postnms, file, tmp_path):
    (tmp_path / file).write_text(
        yaml.safe_dump({**FIELDS, "differences": [["stage.nms", "b.nms"]]})
    )
    status, _, error = postnms("experiment", file)
    assert status == 2
    line = (tmp_path / file).read_text().splitlines().index("  - b.nms") + 1
    assert error.startswith(f"postnms: {file}, line {line}: differences.0.1: no arm 'b' (")
