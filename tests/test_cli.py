"""The verbs as a user meets them."""

import json
import sys

import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from postnms.cli import main
from tests.test_training import TINY

SETS = [part for change in [*TINY, "training.iterations=2"] for part in ("--set", change)]


@pytest.fixture
def postnms(monkeypatch, capsys):
    """Run a command line; returns the exit status, stdout and stderr."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["postnms", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        AcceleratorState._reset_state(reset_partial_state=True)
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A tiny trained run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    argv, sys.argv = sys.argv, ["postnms", "train", "demo", "--out", str(folder), *SETS]
    try:
        with pytest.raises(SystemExit):
            main()
    finally:
        sys.argv = argv
        AcceleratorState._reset_state(reset_partial_state=True)
    return folder


def test_help_names_the_verbs(postnms):
    status, shown, _ = postnms("--help")
    assert status == 0
    assert all(verb in shown for verb in ("demo", "scenes", "recipes", "train", "eval", "predict"))


def test_recipes_are_listed_and_shown_as_json(postnms):
    assert "faster_rcnn_r50_fpn_1x" in postnms("recipes", "list")[1]
    status, shown, about = postnms("recipes", "show", "faster_rcnn_r50_fpn_1x", "--set", "stage.weighting=cls")
    assert status == 0
    assert json.loads(shown)["stage"]["weighting"] == "cls"
    assert "accelerate launch" in about


def test_scenes_are_written_and_can_be_trained_on(postnms, tmp_path):
    status, shown, _ = postnms("scenes", "--out", tmp_path / "s", "--train", 4, "--val", 2, "--size", 64)
    assert status == 0
    assert "train 4 images" in shown
    assert len(list((tmp_path / "s" / "images").glob("*.png"))) == 6
    status, shown, _ = postnms("train", "demo", "--data", tmp_path / "s", "--out", tmp_path / "run", *SETS)
    assert status == 0
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["data"] == "s"


def test_demo_draws_and_measures(postnms, tmp_path):
    status, shown, _ = postnms("demo", "--out", tmp_path, *SETS)
    assert status == 0
    assert "gain of post-NMS over NMS" in shown
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3
    assert sorted(json.loads((tmp_path / "metrics.json").read_text())) == ["gain", "nms", "post_nms"]
    assert postnms("demo", "--out", tmp_path, *SETS)[0] == 0


def test_eval_gives_the_figures_that_training_gave(postnms, run_folder):
    before = json.loads((run_folder / "metrics.json").read_text())
    status, shown, _ = postnms("eval", run_folder)
    assert status == 0
    assert "post_nms" in shown
    assert json.loads((run_folder / "metrics.json").read_text()) == before
    results = json.loads((run_folder / "results_post_nms.json").read_text())
    assert all(entry.keys() == {"image_id", "category_id", "bbox", "score"} for entry in results)


def test_eval_can_change_what_needs_no_other_weights(postnms, run_folder):
    plain = ("--set", "stage.fusion=[1,0,0]", "--set", "stage.relocation=false")
    assert postnms("eval", run_folder, *plain)[0] == 0
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert metrics["post_nms"] == metrics["nms"]
    status, _, shown = postnms("eval", run_folder, "--set", "stage.width=9")
    assert status == 2
    assert "the weights do not fit the model: stage.heads.objectness_trunk.fc6.weight has shape" in shown


def test_predict_draws_every_image_and_writes_results(postnms, run_folder, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (50, 70), "red").save(folder / "a.png")
    Image.new("L", (1, 1)).save(folder / "deep" / "b.jpg")
    Image.new("RGBA", (40, 30)).save(folder / "deep" / "a.png")
    status, shown, _ = postnms("predict", run_folder, folder, "--out", tmp_path / "out", "--both")
    assert status == 0
    assert "3 pictures" in shown
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["1_a.png", "2_a.png", "b.png", "images.json", "results_nms.json", "results_post_nms.json"]
    names = [entry["file_name"] for entry in json.loads((tmp_path / "out" / "images.json").read_text())]
    assert [name.rsplit("in/")[-1] for name in names] == ["a.png", "deep/a.png", "deep/b.jpg"]


def bad_lines(run_folder, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    return [
        (["train", "dmo", "--out", tmp_path / "x"], "recipe 'dmo': no such recipe (did you mean 'demo'?)"),
        (["train", "demo", "--out", tmp_path / "x", "--set", "stage.widt=3"], "recipe.stage.widt: no such field"),
        (["train", "faster_rcnn_r18_small", "--out", tmp_path / "x"], "--data: recipe 'faster_rcnn_r18_small' has no"),
        (["train", "demo", "--out", tmp_path / "x", "--data", tmp_path / "no"], "no such annotation file"),
        (["train", "demo", "--out", run_folder], "holds a run already; pass --resume"),
        (["train", "demo", "--out", tmp_path / "x", "--resume"], "has no checkpoint to resume from"),
        (["eval", tmp_path], "not a run folder (no recipe.json)"),
        (["predict", run_folder, tmp_path / "no", "--out", tmp_path / "o"], "no such file or folder"),
        (["predict", run_folder, text, "--out", tmp_path / "o"], "text.png: cannot be read as an image"),
        (["predict", run_folder, text, "--out", tmp_path], "would overwrite an input"),
        (["scenes", "--out", text / "s"], "could not be written"),
    ]


def test_mistakes_are_one_clear_line(postnms, run_folder, tmp_path):
    for words, message in bad_lines(run_folder, tmp_path):
        status, _, shown = postnms(*words)
        lines = [line for line in shown.splitlines() if line.startswith("postnms: ")]
        assert status == 2, words
        assert len(lines) == 1, shown
        assert message in lines[0]
        assert "Traceback" not in shown
