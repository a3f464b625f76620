"""``postnms eval`` measures a run again, as it was trained or with other settings."""

import json

import pytest
from PIL import Image

from postnms.files.tensor_files import load_tensors, save_tensors
from postnms.runs.folder import RunFolder
from tests.support.runs import SETS, contents


def test_eval_gives_what_training_gave(postnms, any_run):
    before = contents(any_run)
    assert sum(len(entries) for name, entries in before.items() if name.startswith("results")) > 20
    for file in before:
        (any_run / file).unlink()
    status, shown, _ = postnms("eval", any_run)
    assert status == 0
    is_bare = "results_post_nms.json" not in before
    assert ("post_nms" in shown, "gains" in before["metrics.json"]) == (not is_bare, not is_bare)
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
    misfit = "the weights do not fit the model: stage.heads.objectness_trunk.fc6.weight has shape"
    assert misfit in shown


@pytest.mark.parametrize("verb", ["eval", "dump"])
@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("training.final_weights=best", "training.final_weights"),
        ("data.augmentation.horizontal_flip=0", "data.augmentation.horizontal_flip"),
        ("stage.weighting=cls", "stage.weighting"),
        ("data.augmentation={}", "data.augmentation"),
        ('training={"lr": 1}', "training.lr"),
        ('stage={"width": 8, "beta": 1}', "stage.beta"),
    ],
)
def test_what_training_alone_reads_cannot_be_changed_after_it(
    postnms, trained_run, tmp_path, verb, field, path
):
    out = ("--out", tmp_path / "c.safetensors") if verb == "dump" else ()
    status, _, shown = postnms(verb, trained_run, *out, "--set", field)
    assert status == 2
    assert shown.splitlines()[-1] == (
        f"postnms: --set: {path}: expected a field that has an effect after training, got one that "
        "training alone reads"
    )
    assert postnms(verb, trained_run, *out, "--set", "training={}")[0] == 2


def test_rows_of_an_earlier_evaluation_do_not_stay(postnms, run_folder):
    second = run_folder / "results_post_nms_second_nms.json"
    for settings, there in ((["--set", "stage.second_nms=0.5"], True), ([], False)):
        assert postnms("eval", run_folder, *settings)[0] == 0
        assert second.exists() == there


def test_a_test_split_gives_results_to_hand_in(postnms, run_folder, tmp_path):
    postnms("scenes", "--out", tmp_path / "s", "--train", 0, "--val", 2, "--size", 64)
    path = tmp_path / "s" / "instances_val.json"
    truth = json.loads(path.read_text())
    del truth["annotations"]
    path.write_text(json.dumps(truth))
    before = (run_folder / "metrics.json").read_text()
    status, shown, _ = postnms("eval", run_folder, "--data", tmp_path / "s")
    assert status == 0
    assert "instances_val.json has no annotations; results to hand in: " in shown
    handed_in = contents(run_folder)["results_post_nms.s.val.json"]
    assert {entry["image_id"] for entry in handed_in} == {1, 2}
    assert (run_folder / "metrics.json").read_text() == before
    assert not (run_folder / "evaluation.json").exists()
    before = contents(run_folder)
    status, _, shown = postnms("eval", run_folder, "--data", tmp_path / "s", "--plots")
    assert status == 2
    assert shown.splitlines()[-1] == (
        f"postnms: --plots: expected a split with annotations, got {path} without any"
    )
    assert contents(run_folder) == before


def test_eval_takes_the_data_that_the_run_was_trained_on(postnms, tmp_path):
    postnms("scenes", "--out", tmp_path / "s", "--train", 4, "--val", 2, "--size", 64)
    postnms("train", "demo", "--data", tmp_path / "s", "--out", tmp_path / "run", *SETS)
    before = contents(tmp_path / "run")
    assert postnms("eval", tmp_path / "run")[0] == 0
    assert contents(tmp_path / "run") == before
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["data"] == "s"


def test_weights_that_are_not_finite_are_one_line_in_eval_predict_and_dump(
    postnms, run_folder, tmp_path
):
    folder = RunFolder(run_folder)
    tensors, about = load_tensors(folder.weights)
    tensors["model.stage.heads.objectness.bias"].fill_(float("nan"))
    save_tensors(folder.weights, tensors, about)
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    out = ("--out", tmp_path / "out.safetensors")
    for words in (
        ("eval", run_folder),
        ("predict", run_folder, tmp_path / "a.png", "--out", tmp_path / "pictures"),
        ("dump", run_folder, *out),
    ):
        status, _, shown = postnms(*words)
        assert status == 2
        assert "stage: objectness: " in shown
        assert "outputs are NaN or infinite: the weights have diverged" in shown
        assert "Traceback" not in shown


def test_eval_shows_each_class_and_draws_curves_that_the_next_eval_removes(postnms, run_folder):
    folder = RunFolder(run_folder)
    status, shown, _ = postnms("eval", run_folder, "--plots")
    assert status == 0
    metrics = json.loads(folder.metrics.read_text())
    names = [entry["name"] for entry in json.loads(folder.labels.read_text())]
    first_words = [line.split()[0] for line in shown.splitlines()]
    for row in ("nms", "post_nms"):
        assert [entry["name"] for entry in metrics["classes"][row]] == names
        aps = [entry["AP"] for entry in metrics["classes"][row] if entry["AP"] is not None]
        assert sum(aps) / len(aps) == pytest.approx(metrics[row]["AP"])
    of_rows = {row: best for row, best in metrics["best_f1"].items() if best}
    assert list(metrics["best_f1"]) == ["nms", "post_nms"]
    assert of_rows
    for row, best in of_rows.items():
        assert f"{row}: best F1 {best['f1']:.3f} at score {best['score']:.3f} (precision " in shown
    assert set(names) <= set(first_words)
    lines = json.loads(folder.curves().read_text())
    assert lines["nms"]["AP"][0] == pytest.approx(metrics["nms"]["AP"], abs=1e-5)
    assert folder.curves_chart().read_bytes().startswith(b"\x89PNG")
    assert postnms("eval", run_folder)[0] == 0
    assert not folder.curves().exists()
    assert not folder.curves_chart().exists()
