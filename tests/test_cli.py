"""The verbs as a user meets them."""

import io
import json
import shutil
import sys

import pytest
from accelerate.state import AcceleratorState
from PIL import Image
from rich.console import Console

from postnms.cli import main
from postnms.cli.train import print_metrics
from postnms.evaluation.metrics import FIGURES
from postnms.recipes import get_recipe
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


@pytest.fixture(scope="module", params=["with the stage", "without"])
def any_run(tmp_path_factory, request):
    """A tiny trained run, with the stage or without it."""
    return tiny_run(
        tmp_path_factory, *(["--set", "stage=null"] if request.param == "without" else [])
    )


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A tiny trained run."""
    return tiny_run(tmp_path_factory)


def tiny_run(tmp_path_factory, *changes):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    argv, sys.argv = sys.argv, ["postnms", "train", "demo", "--out", str(folder), *SETS, *changes]
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
    status, shown, about = postnms(
        "recipes", "show", "faster_rcnn_r50_fpn_1x", "--set", "stage.weighting=cls"
    )
    assert status == 0
    assert json.loads(shown)["stage"]["weighting"] == "cls"
    assert "accelerate launch" in about


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


def test_demo_draws_and_measures(postnms, tmp_path):
    status, shown, _ = postnms("demo", "--out", tmp_path, *SETS)
    assert status == 0
    assert "gain of post-NMS over NMS" in shown
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3
    assert sorted(json.loads((tmp_path / "metrics.json").read_text())) == [
        "gain",
        "nms",
        "post_nms",
    ]
    assert postnms("demo", "--out", tmp_path, *SETS)[0] == 0


def contents(folder):
    """Metrics and results of each row, by the name of the file."""
    files = [folder / "metrics.json", *folder.glob("results_*.json")]
    return {file.name: json.loads(file.read_text()) for file in files}


def test_eval_gives_what_training_gave(postnms, any_run):
    before = contents(any_run)
    assert sum(len(entries) for name, entries in before.items() if name.startswith("results")) > 20
    for file in before:
        (any_run / file).unlink()
    status, shown, _ = postnms("eval", any_run)
    assert status == 0
    bare = "results_post_nms.json" not in before
    assert ("post_nms" in shown, "gain" in before["metrics.json"]) == (not bare, not bare)
    assert contents(any_run) == before
    for entry in before["results_nms.json"]:
        assert entry.keys() == {"image_id", "category_id", "bbox", "score"}


def test_eval_can_change_what_needs_no_other_weights(postnms, run_folder):
    before = contents(run_folder)
    assert before["results_post_nms.json"] != before["results_nms.json"]
    plain = ("--set", "stage.fusion=[1,0,0]", "--set", "stage.relocation=false")
    assert postnms("eval", run_folder, *plain)[0] == 0
    after = contents(run_folder)
    assert after["results_nms.json"] == before["results_nms.json"] == after["results_post_nms.json"]
    evaluation = json.loads((run_folder / "evaluation.json").read_text())
    assert evaluation["recipe"]["stage"]["fusion"] == [1, 0, 0]
    assert "--set 'stage.fusion=[1,0,0]'" in evaluation["command"]
    status, _, shown = postnms("eval", run_folder, "--set", "stage.width=9")
    assert status == 2
    assert (
        "the weights do not fit the model: stage.heads.objectness_trunk.fc6.weight has shape"
        in shown
    )


def test_rows_of_an_earlier_evaluation_do_not_stay(postnms, run_folder):
    second = run_folder / "results_post_nms_second_nms.json"
    for settings, there in ((["--set", "stage.second_nms=0.5"], True), ([], False)):
        assert postnms("eval", run_folder, *settings)[0] == 0
        assert second.exists() == there


def test_a_run_is_resumed_on_its_own_data_and_classes(postnms, tmp_path):
    postnms("scenes", "--out", tmp_path / "s", "--train", 4, "--val", 2, "--size", 64)
    assert (
        postnms("train", "demo", "--data", tmp_path / "s", "--out", tmp_path / "run", *SETS)[0] == 0
    )
    before = contents(tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").write_text("{}")
    assert postnms("train", "demo", "--out", tmp_path / "run", *SETS, "--resume")[0] == 0
    assert contents(tmp_path / "run") == before
    assert not (tmp_path / "run" / "evaluation.json").exists()
    about = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert about["data"] == about["resumed"][0]["data"] == "s"
    assert about["resumed"][0]["command"].endswith("--resume")
    labels = tmp_path / "run" / "labels.json"
    labels.write_text(labels.read_text().replace("disc", "disk"))
    status, _, shown = postnms("train", "demo", "--out", tmp_path / "run", *SETS, "--resume")
    assert (status, "labels.json: the run was trained on other classes" in shown) == (2, True)


def test_a_test_split_gives_results_to_hand_in(postnms, tmp_path_factory, tmp_path):
    run_folder = tiny_run(tmp_path_factory)
    postnms("scenes", "--out", tmp_path / "s", "--train", 0, "--val", 2, "--size", 64)
    path = tmp_path / "s" / "instances_val.json"
    truth = json.loads(path.read_text())
    del truth["annotations"]
    path.write_text(json.dumps(truth))
    before = (run_folder / "metrics.json").read_text()
    status, shown, _ = postnms("eval", run_folder, "--data", tmp_path / "s")
    assert status == 0
    assert "instances_val.json has no annotations; results to hand in: " in shown
    assert {entry["image_id"] for entry in contents(run_folder)["results_post_nms.json"]} == {1, 2}
    assert (run_folder / "metrics.json").read_text() == before
    assert not (run_folder / "evaluation.json").exists()
    status, _, shown = postnms(
        "train", "demo", "--data", tmp_path / "s", "--out", tmp_path / "run", *SETS
    )
    assert status == 2
    assert "instances_train.json: images: expected at least one, got none" in shown


def test_eval_takes_the_data_that_the_run_was_trained_on(postnms, tmp_path):
    postnms("scenes", "--out", tmp_path / "s", "--train", 4, "--val", 2, "--size", 64)
    postnms("train", "demo", "--data", tmp_path / "s", "--out", tmp_path / "run", *SETS)
    before = contents(tmp_path / "run")
    assert postnms("eval", tmp_path / "run")[0] == 0
    assert contents(tmp_path / "run") == before
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["data"] == "s"


def test_nothing_of_an_earlier_run_is_taken_for_the_next_ones(postnms, tmp_path):
    assert postnms("demo", "--out", tmp_path, *SETS)[0] == 0
    (tmp_path / ".checkpoint.safetensors.123").write_text("left by a kill")
    kept = sorted(tmp_path.rglob("*"))
    assert (
        postnms("demo", "--out", tmp_path, *SETS, "--set", "detector.backbone.fpn_channels=9")[0]
        == 2
    )
    assert sorted(tmp_path.rglob("*")) == kept  # a mistake costs nothing
    status, _, shown = postnms("demo", "--out", tmp_path, *SETS, "--set", "training.lr=1e30")
    assert (status, "a loss is not finite" in shown) == (2, True)
    left = {path.name for path in tmp_path.iterdir()}
    assert not left & {
        "weights.safetensors",
        "checkpoint.safetensors",
        "metrics.json",
        ".checkpoint.safetensors.123",
    }
    assert not any(name.startswith("results") for name in left)
    assert not list((tmp_path / "pictures").iterdir())


def test_predict_leaves_out_what_it_cannot_read_and_says_so(postnms, run_folder, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    for name in ("a.png", "c.png"):
        Image.new("RGB", (50, 70), "red").save(tmp_path / name)
    for _ in range(2):  # the second time there are pictures in the folder of the images
        status, shown, errors = postnms("predict", run_folder, tmp_path, "--out", tmp_path / "out")
        assert status == 2
        assert "2 pictures and COCO results" in shown
        assert "postnms: 1 of 3 images left out: " in errors
        assert "broken.png: cannot be read as an image" in errors
    assert (tmp_path / "out" / "c.png").is_file()
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [(entry["id"], "error" in entry) for entry in entries] == [
        (1, False),
        (2, True),
        (3, False),
    ]
    assert {
        e["image_id"] for e in json.loads((tmp_path / "out" / "results_nms.json").read_text())
    } == {1, 3}


@pytest.mark.parametrize("columns", ["60", "80"])
def test_the_table_names_its_rows_in_a_narrow_terminal(columns):
    shown = io.StringIO()
    metrics = {row: dict.fromkeys(FIGURES, 12.3) for row in ("nms", "post_nms")}
    print_metrics({**metrics, "gain": {"AP": None}}, Console(file=shown, width=int(columns)))
    rows = [line.split()[0] for line in shown.getvalue().splitlines()]
    assert rows == ["row", "nms", "post_nms"]


def test_predict_draws_every_image_and_writes_results(postnms, any_run, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (50, 70), "red").save(folder / "a.png")
    Image.new("L", (1, 1)).save(folder / "deep" / "b.jpg")
    Image.new("RGBA", (40, 30)).save(folder / "deep" / "a.png")
    status, shown, _ = postnms("predict", any_run, folder, "--out", tmp_path / "out", "--both")
    assert status == 0
    assert "3 pictures" in shown
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    results = sorted(path.name for path in any_run.glob("results_*.json"))
    assert written == ["1_a.png", "2_a.png", "3_b.png", "images.json", *results]
    names = [
        entry["file_name"] for entry in json.loads((tmp_path / "out" / "images.json").read_text())
    ]
    assert [name.rsplit("in/")[-1] for name in names] == ["a.png", "deep/a.png", "deep/b.jpg"]


def bad_lines(run_folder, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "instances_val.json").write_text("{}")
    other = tmp_path / "other"
    other.mkdir()
    (other / "recipe.json").write_text(get_recipe("demo", ["name=mine"]).model_dump_json())
    return [
        (
            ["train", "dmo", "--out", tmp_path / "x"],
            "recipe 'dmo': no such recipe (did you mean 'demo'?)",
        ),
        (
            ["train", "demo", "--out", tmp_path / "x", "--set", "stage.widt=3"],
            "recipe.stage.widt: no such field",
        ),
        (
            ["train", "faster_rcnn_r18_small", "--out", tmp_path / "x"],
            "--data: recipe 'faster_rcnn_r18_small' has no",
        ),
        (
            ["train", "demo", "--out", tmp_path / "x", "--data", tmp_path / "no"],
            "no such annotation file",
        ),
        (["train", "demo", "--out", run_folder], "holds a run already; pass --resume"),
        (["demo", "--out", other], "other: holds a run that is no demo; name another --out"),
        (
            ["train", "demo", "--out", tmp_path / "x", "--resume"],
            "has no checkpoint to resume from",
        ),
        (["eval", tmp_path], "not a run folder (no recipe.json)"),
        (
            ["predict", run_folder, tmp_path / "no", "--out", tmp_path / "o"],
            "no such file or folder",
        ),
        (
            ["predict", run_folder, text, "--out", tmp_path / "o"],
            "text.png: cannot be read as an image",
        ),
        (["predict", run_folder, text, "--out", tmp_path], "would overwrite an input"),
        (["scenes", "--out", text / "s"], "could not be written"),
        (
            ["scenes", "--out", foreign],
            "instances_val.json: holds annotations that are no crowded scenes",
        ),
    ]


def test_a_finished_run_is_not_overwritten_without_its_checkpoint_either(
    postnms, run_folder, tmp_path
):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    status, _, shown = postnms("train", "demo", "--out", tmp_path / "run")
    assert (status, "holds a run already" in shown) == (2, True)
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_mistakes_are_one_clear_line(postnms, run_folder, tmp_path):
    for words, message in bad_lines(run_folder, tmp_path):
        status, _, shown = postnms(*words)
        lines = [line for line in shown.splitlines() if line.startswith("postnms: ")]
        assert status == 2, words
        assert len(lines) == 1, shown
        assert message in lines[0]
        assert "Traceback" not in shown
