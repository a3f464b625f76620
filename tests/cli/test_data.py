"""The verbs take data in any layout, and any split of them."""

import json
import shutil

import pytest

from postnms.candidate_files.reader import open_candidates
from tests.support.data_folders import write_text
from tests.support.runs import SETS, contents

NOT_THE_FILE = "is not the file that"


@pytest.fixture
def scenes(postnms, tmp_path):
    """A folder with the splits train, val and test of the scenes."""
    folder = tmp_path / "s"
    postnms("scenes", "--out", folder, "--train", 4, "--val", 3, "--size", 64)
    content = json.loads((folder / "instances_val.json").read_text())
    content["images"] = content["images"][:2]
    ids = {entry["id"] for entry in content["images"]}
    content["annotations"] = [e for e in content["annotations"] if e["image_id"] in ids]
    (folder / "instances_test.json").write_text(json.dumps(content))
    return folder


def as_yolo(scenes, root):
    """Write a YOLO copy of a COCO folder."""
    for file in scenes.glob("instances_*.json"):
        content = json.loads(file.read_text())
        split = file.stem.removeprefix("instances_")
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
        numbers = list(names)
        for image in content["images"]:
            lines = []
            for entry in content["annotations"]:
                if entry["image_id"] == image["id"]:
                    x, y, w, h = entry["bbox"]
                    shares = [(x + w / 2) / 64, (y + h / 2) / 64, w / 64, h / 64]
                    lines.append(
                        f"{numbers.index(entry['category_id'])} {' '.join(map(repr, shares))}"
                    )
            name = image["file_name"]
            write_text(root / split / "labels" / f"{name[:-4]}.txt", "\n".join(lines))
            (root / split / "images").mkdir(exist_ok=True)
            shutil.copyfile(scenes / "images" / name, root / split / "images" / name)
    splits = "\n".join(f"{split}: {split}/images" for split in ("train", "val", "test"))
    write_text(root / "data.yaml", f"{splits}\nnames: {json.dumps(list(names.values()))}\n")
    return root


def test_another_split_has_figures_of_its_own(postnms, run_folder, scenes):
    before = contents(run_folder)
    status, shown, _ = postnms("eval", run_folder, "--data", scenes, "--split", "test")
    assert status == 0
    assert shown.startswith("COCO: train 4, val 3, test 2 images, 5 classes\n")
    found = contents(run_folder)
    assert {name: found[name] for name in before} == before
    results = json.loads((run_folder / "results_nms.s.test.json").read_text())
    assert {entry["image_id"] for entry in results} <= {1, 2}
    figures = json.loads((run_folder / "metrics.s.test.json").read_text())
    assert figures.keys() == before["metrics.json"].keys()
    assert json.loads((run_folder / "evaluation.s.test.json").read_text())["split"] == "test"
    assert not (run_folder / "evaluation.json").exists()
    assert json.loads((run_folder / "splits.json").read_text()) == {"s.test": str(scenes)}


def test_figures_of_other_data_do_not_replace_those_of_the_run(postnms, run_folder, scenes):
    before = {file: file.read_bytes() for file in run_folder.glob("*.*")}
    status, shown, _ = postnms("eval", run_folder, "--data", scenes, "--plots")
    assert status == 0
    figures = run_folder / "metrics.s.val.json"
    assert f"other data than the run was trained on: figures in {figures}" in shown
    assert {file: file.read_bytes() for file in before} == before
    curves = ("curves.s.val.json", "curves.s.val.png")
    results = ("results_nms.s.val.json", "results_post_nms.s.val.json", "splits.json")
    new = {file.name for file in set(run_folder.glob("*.*")) - before.keys()}
    assert new == {"evaluation.s.val.json", figures.name, *curves, *results}
    # What reads the results of a run on these data takes these.
    convert = ("convert", run_folder, "--data", scenes, "--format", "supervision", "--out")
    assert postnms(*convert, scenes / "viewed")[0] == 0
    lines = (scenes / "viewed" / "nms.csv").read_text().splitlines()
    assert len(lines) == 1 + len(json.loads((run_folder / results[0]).read_text()))


def test_two_folders_of_one_name_do_not_share_their_figures(postnms, run_folder, scenes):
    assert postnms("eval", run_folder, "--data", scenes)[0] == 0
    first = (run_folder / "metrics.s.val.json").read_bytes()
    other = shutil.copytree(scenes, scenes.parent / "north" / "s")
    for path in (other, scenes, other):
        status, shown, _ = postnms("eval", run_folder, "--data", path, "--split", "val")
        name = "s.val" if path == scenes else "north_s.val"
        assert (status, f"figures in {run_folder / f'metrics.{name}.json'}" in shown) == (0, True)
    assert (run_folder / "metrics.s.val.json").read_bytes() == first


def test_data_that_have_moved_are_those_of_the_run(postnms, scenes, tmp_path):
    run = tmp_path / "run"
    assert postnms("train", "demo", "--data", scenes, "--out", run, *SETS)[0] == 0
    before = contents(run)
    moved = scenes.rename(tmp_path / "moved")
    status, shown, _ = postnms("eval", run, "--data", moved)
    assert (status, "other data" in shown) == (0, False)
    assert contents(run) == before
    assert json.loads((run / "evaluation.json").read_text())["data"] == "moved"


def test_valid_is_another_name_of_val(postnms, run_folder, scenes):
    assert postnms("eval", run_folder, "--split", "valid")[0] == 0
    assert not (run_folder / "splits.json").exists()


def test_the_scenes_have_the_splits_train_and_val(postnms, run_folder):
    assert postnms("eval", run_folder, "--split", "train")[0] == 0
    assert (run_folder / "metrics.train.json").is_file()
    status, _, error = postnms("eval", run_folder, "--split", "test")
    assert status == 2
    assert error == (
        "postnms: --split: expected train or val, the splits of the built-in scenes, got test\n"
    )


def test_a_split_that_is_not_there_is_one_line(postnms, run_folder, scenes):
    status, _, error = postnms("eval", run_folder, "--data", scenes, "--split", "night")
    assert (status, error.count("\n")) == (2, 1)
    assert "COCO: has no split night, only train, val, test" in error


def test_a_run_is_measured_on_another_format_of_its_data(postnms, run_folder, scenes, tmp_path):
    """The classes of the two have other ids, and their names decide."""
    yolo = as_yolo(scenes, tmp_path / "y")
    figures = {}
    for data in (scenes, yolo, yolo / "data.yaml"):
        status, _, error = postnms("eval", run_folder, "--data", data)
        assert status == 0, error
        file = run_folder / f"metrics.{data.name}.val.json"
        figures[data] = json.loads(file.read_text())["nms"]["AP"]
    assert figures[scenes] == pytest.approx(figures[yolo], abs=1e-9)
    assert figures[yolo] == figures[yolo / "data.yaml"]


def test_a_run_is_trained_and_resumed_on_yolo_data(postnms, scenes, tmp_path):
    yolo, out = as_yolo(scenes, tmp_path / "y"), tmp_path / "run"
    status, shown, error = postnms(
        "train", "demo", "--data", yolo / "data.yaml", "--out", out, *SETS
    )
    assert status == 0, error
    assert shown.startswith("YOLO: train 4, val 3, test 2 images, 5 classes\n")
    labels = json.loads((out / "labels.json").read_text())
    assert [entry["id"] for entry in labels] == [0, 1, 2, 3, 4]
    more = ("--resume", out, "--set", "training.iterations=3")
    assert postnms("train", *more)[0] == 0
    write_text(yolo / "val" / "labels" / "val_00000.txt", "0 .5 .5 .5 .5")
    status, _, error = postnms("train", *more)
    assert status == 2
    assert "the run was trained on other images or annotations" in error
    words = ("train", "demo", "--data", yolo, "--out", tmp_path / "other", *SETS)
    assert postnms(*words, "--set", "data.val_fraction=0.5")[0] == 2


def test_a_dump_of_a_split_is_compared_with_its_truth(postnms, run_folder, scenes, tmp_path):
    file = tmp_path / "c.safetensors"
    for data in (scenes, as_yolo(scenes, tmp_path / "y")):
        status, shown, error = postnms(
            "dump", run_folder, "--data", data, "--split", "test", "--out", file
        )
        assert status == 0, error
        assert "of 2 images" in shown
        about = open_candidates(file)
        assert about.provenance["split"] == "test"
        assert not (about.annotations or "").startswith("/")
        words = ("compare", file, "--data", data, "--out", tmp_path / "out", "--suppressor", "nms")
        status, shown, error = postnms(*words, "--bootstrap", 0)
        assert (status, NOT_THE_FILE in shown) == (0, False), error
        status, _, error = postnms(*words, "--split", "val")
        assert status == 2
        assert "expected the images of the annotations" in error
        status, _, error = postnms(
            "analyse", file, "--data", data, "--split", "test", "--out", tmp_path / "out2"
        )
        assert status == 0, error


def test_labels_that_have_changed_since_a_dump_are_pointed_out(
    postnms, run_folder, scenes, tmp_path
):
    yolo, file = as_yolo(scenes, tmp_path / "y"), tmp_path / "c.safetensors"
    assert postnms("dump", run_folder, "--data", yolo, "--out", file)[0] == 0
    write_text(yolo / "val" / "labels" / "val_00000.txt", "0 .5 .5 .5 .5")
    words = ("--data", yolo, "--out", tmp_path / "out", "--suppressor", "nms", "--bootstrap", 0)
    assert NOT_THE_FILE in postnms("compare", file, *words)[1]


def test_a_share_that_is_set_aside_stays_the_same(postnms, scenes, tmp_path):
    (scenes / "instances_val.json").unlink()
    out, file = tmp_path / "run", tmp_path / "c.safetensors"
    words = ("train", "demo", "--data", scenes, "--out", out, *SETS)
    status, _, error = postnms(*words)
    assert status == 2
    assert "data.val_fraction=0.2" in error
    aside = ("--set", "data.val_fraction=0.4", "--set", "data.tuning_fraction=0.4")
    status, shown, error = postnms(*words, *aside)
    assert status == 0, error
    assert "val (0.4 of it) " in shown
    assert "tuning (0.4 of it) " in shown
    before = contents(out)
    assert postnms("eval", out)[0] == 0
    assert contents(out) == before
    words = ("--data", scenes, "--out", tmp_path / "c", "--suppressor", "nms", "--bootstrap", 0)
    for split in ("val", "tuning"):
        assert postnms("dump", out, "--split", split, "--out", file)[0] == 0
        status, shown, error = postnms("compare", file, *words)
        assert (status, NOT_THE_FILE in shown) == (0, False), error


def test_predict_takes_a_split_in_place_of_images(postnms, run_folder, scenes, tmp_path):
    words = ("predict", run_folder, "--data", scenes, "--split", "test", "--out", tmp_path / "out")
    status, shown, error = postnms(*words)
    assert status == 0, error
    assert "COCO: train 4, val 3, test 2 images" in shown
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [entry["file_name"].rpartition("/")[2] for entry in entries] == [
        "val_00000.png",
        "val_00001.png",
    ]
    status, _, error = postnms(*words, scenes / "images")
    assert (status, "expected images or --data, got both" in error) == (2, True)
    status, _, error = postnms("predict", run_folder, "--out", tmp_path / "out")
    assert (status, "expected images, or a data folder with --data" in error) == (2, True)


def test_results_are_imported_for_a_split(postnms, scenes, tmp_path):
    write_text(tmp_path / "dets.json", "[]")
    file = tmp_path / "c.safetensors"
    words = ("import-candidates", tmp_path / "dets.json", "--data", scenes, "--out", file)
    status, shown, error = postnms(*words, "--split", "test")
    assert status == 0, error
    assert "0 candidates of 2 images" in shown
    assert open_candidates(file).provenance["split"] == "test"
    assert "0 candidates of 3 images" in postnms(*words)[1]


def test_check_shows_every_split(postnms, scenes, tmp_path):
    yolo = as_yolo(scenes, tmp_path / "y")
    write_text(yolo / "test" / "labels" / "stray.txt", "")
    status, shown, _ = postnms("check", yolo, "--json", tmp_path / "facts.json")
    assert status == 0
    line, header, *_ = shown.splitlines()
    assert line.endswith("5 classes; test: 1 label files have no image (first: 'stray.txt')")
    assert header.split() == ["train", "val", "test"]
    assert "note: 2 images are in val and test: val_00000.png, val_00001.png" in shown
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["in_both_splits"] == {"val and test": ["val_00000.png", "val_00001.png"]}
