"""``postnms train`` begins runs, and continues them on the data that they began with."""

import json

from postnms.runs.folder import RunFolder
from tests.support.runs import SETS, contents, weights_of


def test_a_run_is_resumed_on_its_own_data_and_classes(postnms, tmp_path):
    run = tmp_path / "run"
    postnms("scenes", "--out", tmp_path / "s", "--train", 4, "--val", 2, "--size", 64)
    status, shown, _ = postnms("train", "demo", "--data", tmp_path / "s", "--out", run, *SETS)
    assert (status, "gain of post-NMS over NMS" in shown) == (0, True)
    before = contents(run)
    (run / "evaluation.json").write_text("{}")
    assert postnms("train", "demo", "--out", run, *SETS, "--resume")[0] == 0
    assert contents(run) == before
    assert not (run / "evaluation.json").exists()
    about = json.loads((run / "provenance.json").read_text())
    assert about["data"] == about["resumed"][0]["data"] == "s"
    assert about["resumed"][0]["command"].endswith("--resume")
    labels = run / "labels.json"
    labels.write_text(labels.read_text().replace("disc", "disk"))
    status, _, shown = postnms("train", "demo", "--out", run, *SETS, "--resume")
    assert (status, "labels.json: the run was trained on other classes" in shown) == (2, True)


def test_what_is_not_frozen_is_trained_on_from_there(postnms, trained_bare_run, tmp_path):
    out = tmp_path / "run"
    start = ("--from", trained_bare_run, "--freeze", "none")
    one_step = (*SETS, "--set", "training.iterations=1")
    assert postnms("train", "demo", "--out", out, *start, *one_step)[0] == 0
    folder = RunFolder(out)
    before = weights_of(RunFolder(trained_bare_run), "network.")
    after = weights_of(folder, "network.")
    moved = [(after[name] - before[name]).abs().max() for name in before if name.endswith("weight")]
    assert 0 < max(moved) < 0.01
    recipe = json.loads(folder.recipe.read_text())
    assert recipe["training"]["start_from"] == str(trained_bare_run)
    assert recipe["training"]["freeze"] == "none"


def test_a_split_without_images_is_not_trained_on(postnms, tmp_path):
    postnms("scenes", "--out", tmp_path / "s", "--train", 0, "--val", 2, "--size", 64)
    status, _, shown = postnms(
        "train", "demo", "--data", tmp_path / "s", "--out", tmp_path / "run", *SETS
    )
    assert status == 2
    assert "instances_train.json: images: expected at least one, got none" in shown


def test_a_finished_run_is_not_overwritten_without_its_checkpoint_either(postnms, run_folder):
    (run_folder / "checkpoint.safetensors").unlink()
    status, _, shown = postnms("train", "demo", "--out", run_folder)
    assert (status, "holds a run already" in shown) == (2, True)
    assert (run_folder / "weights.safetensors").is_file()


def test_train_does_not_write_into_a_folder_that_is_no_run(postnms, tmp_path):
    (tmp_path / "metrics.json").write_text("mine")
    for verb in (("train", "demo"), ("demo",)):
        status, _, shown = postnms(*verb, "--out", tmp_path, *SETS)
        assert (
            status,
            "holds files, and is not a run (no recipe.json of this library)" in shown,
        ) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
