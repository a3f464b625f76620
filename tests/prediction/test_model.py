"""One object takes images of every kind, and gives the same result for the same pixels."""

import dataclasses
import json
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import nms

import postnms
from postnms import Model, UserError
from postnms.data.columns import Entries
from postnms.data.splits import open_splits
from postnms.files.atomic import write_json
from postnms.inference.evaluate import detect_split
from postnms.runs.folder import RunFolder, read_recipe
from postnms.runs.loading import load_detector
from tests.support.detectors import TWO, build

ONE, OTHER = (image.mul(255).to(torch.uint8) for image in TWO)
PIXELS = ONE.permute(1, 2, 0).numpy()


def same(found, expected):
    assert found.boxes.dtype == np.float32
    assert found.labels.dtype == np.int64
    assert np.array_equal(found.labels, expected.labels)
    assert np.allclose(found.boxes, expected.boxes, atol=1e-3)
    assert np.allclose(found.scores, expected.scores, atol=1e-6)
    assert found.names == expected.names
    assert found.image_size == expected.image_size


@pytest.fixture
def files(tmp_path):
    (tmp_path / "deep").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "one.png")
    Image.fromarray(OTHER.permute(1, 2, 0).numpy()).save(tmp_path / "deep" / "other.png")
    (tmp_path / "note.txt").write_text("no image")
    return tmp_path


def test_the_same_pixels_give_the_same_prediction(model, files):
    expected = model.predict(ONE)[0]
    assert len(expected) > 3
    assert len(set(expected.labels.tolist())) > 1
    kinds = [
        PIXELS,
        PIXELS / 255,
        Image.fromarray(PIXELS),
        ONE.float() / 255,
        files / "one.png",
        str(files / "one.png"),
        [ONE],
        ONE[None],
        PIXELS[None],
    ]
    for kind in kinds:
        [found] = model.predict(kind)
        same(found, expected)
    assert model.predict(files / "one.png")[0].path == files / "one.png"
    assert expected.path is None


def test_a_list_may_mix_everything_and_keeps_its_order(model, files):
    one, other = model.predict(ONE)[0], model.predict(OTHER)[0]
    found = model.predict([OTHER, str(files / "*.png"), PIXELS, files], batch_size=3)
    for prediction, expected in zip(found, [other, one, one, other, one], strict=True):
        same(prediction, expected)
    patterns = model.predict(str(files / "**" / "*"))
    assert [prediction.path.name for prediction in patterns] == ["other.png", "one.png"]
    assert model.predict([]) == []


@pytest.mark.parametrize(("batch_size", "together"), [(1, 1), (2, 1), (5, 2)])
def test_a_result_does_not_depend_on_the_others_of_a_batch(model, batch_size, together):
    """``together``: how many images of one size meet in a batch. Their number may change how a
    convolution rounds, so copies of an image stand for the others."""
    one, other = (model.predict([image] * together, batch_size=5)[0] for image in (ONE, OTHER))
    found = model.predict([ONE, OTHER, ONE, OTHER], batch_size=batch_size)
    for prediction, expected in zip(found, [one, other, one, other], strict=True):
        same(prediction, expected)


def test_boxes_scores_and_labels_are_those_of_the_detector(model):
    image = torch.zeros(3, 96, 128, dtype=torch.uint8)  # It needs no resizing.
    image[:, 20:60, 30:90] = 200
    with torch.no_grad():
        rows = model.detector([image]).rows
    for name in ("nms", "post_nms"):
        [found] = model.predict(image, row=name)
        assert found.row == name
        assert np.allclose(found.boxes, rows[name].boxes.numpy(), atol=1e-4)
        assert np.array_equal(found.labels, rows[name].labels.numpy())
        assert np.allclose(found.scores, rows[name].scores.numpy())
    assert model.predict(image)[0].row == "post_nms"
    assert Model(build("faster_rcnn", None), ["a", "b", "c"]).predict(image)[0].row == "nms"


def test_the_least_score_counts(model):
    every = model.predict(ONE)[0]
    least = float(np.median(every.scores))
    found = model.predict(ONE, min_score=least)[0]
    assert found.scores.min() >= least
    assert len(found) == int((every.scores >= least).sum()) < len(every)


@pytest.mark.parametrize("tile", [None, 64])
def test_an_object_has_one_class_where_that_is_asked_for(model, tile):
    every = model.predict(ONE, tile=tile)[0]
    found = model.predict(ONE, tile=tile, class_agnostic=0.3)[0]
    rows = nms(torch.from_numpy(every.boxes), torch.from_numpy(every.scores), 0.3).numpy()
    assert 0 < len(rows) < len(every)
    assert np.array_equal(found.boxes, every.boxes[rows])
    assert found.names == [every.names[row] for row in rows]
    with pytest.raises(UserError, match="class_agnostic: expected an IoU from 0 to 1, got 3"):
        model.predict(ONE, class_agnostic=3)


def test_auto_is_the_threshold_of_the_row_with_the_best_f1(trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    loaded = postnms.load(run)
    every = {row: loaded.predict(ONE, row=row)[0] for row in loaded.rows}
    middles = {row: float(np.median(found.scores)) for row, found in every.items()}
    assert middles["nms"] != middles["post_nms"]
    rest = {"f1": 0.5, "precision": 0.5, "recall": 0.5}
    best_f1 = {row: {"score": score, **rest} for row, score in middles.items()}
    write_json(run / "metrics.json", {"best_f1": best_f1})
    loaded = postnms.load(run)
    for row, middle in middles.items():
        found = loaded.predict(ONE, row=row, min_score="auto")[0]
        same(found, loaded.predict(ONE, row=row, min_score=middle)[0])
        assert 0 < len(found) < len(every[row])
    last = loaded.predict(ONE, min_score="auto")[0]
    assert (last.row, len(last)) == (
        "post_nms",
        int((every["post_nms"].scores >= last.scores[-1]).sum()),
    )
    assert loaded.best_f1["nms"].score == middles["nms"]


def test_the_evaluation_of_a_training_gives_the_thresholds(trained_run):
    metrics = json.loads((trained_run / "metrics.json").read_text())["best_f1"]
    loaded = postnms.load(trained_run)
    assert list(metrics) == list(loaded.best_f1) == ["nms", "post_nms"]
    for row, best in loaded.best_f1.items():
        assert metrics[row] == (None if best is None else dataclasses.asdict(best))


def test_without_a_threshold_auto_is_refused(trained_run, tmp_path, model):
    run = shutil.copytree(trained_run, tmp_path / "run")
    write_json(run / "metrics.json", {"best_f1": {"nms": None}})
    loaded = postnms.load(run)
    again = (
        rf"^min_score: auto: {run} has no best F1 of post_nms .*; run 'postnms eval {run}' first$"
    )
    with pytest.raises(UserError, match=again):
        loaded.predict(ONE, min_score="auto")
    with pytest.raises(UserError, match="no detection of nms is right on the val split of the run"):
        loaded.predict(ONE, row="nms", min_score="auto")
    with pytest.raises(
        UserError, match=r"^min_score: auto: the model has no run with a best F1 of"
    ):
        model.predict(ONE, min_score="auto")
    # What is damaged does not matter until it is asked for.
    (run / "metrics.json").write_text("{")
    assert len(postnms.load(run).predict(ONE, min_score=0.0)) == 1
    with pytest.raises(UserError, match=r"metrics.json: malformed JSON"):
        postnms.load(run).predict(ONE, min_score="auto")


def test_threads_share_a_model(model):
    """Eight calls at once give what one gives, and change neither weights nor buffers."""
    before = {name: value.clone() for name, value in model.detector.state_dict().items()}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    images = [ONE, OTHER]
    expected = [model.predict(image)[0] for image in images]
    found, start = {}, threading.Barrier(8)

    def work(number):
        start.wait()
        found[number] = model.predict(images[number % 2])[0]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        assert np.array_equal(found[number].boxes, expected[number % 2].boxes)
        assert np.array_equal(found[number].scores, expected[number % 2].scores)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part.training for part in model.detector.modules())
    after = model.detector.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_run_is_loaded_and_predicts_what_its_evaluation_did(trained_run):
    loaded = postnms.load(trained_run)
    folder = RunFolder(trained_run)
    recipe = read_recipe(folder)
    val = open_splits(recipe.data, None, recipe.detector.input_size, recipe.seed).val
    expected = detect_split(load_detector(folder), val, 1)
    for row in ("nms", "post_nms"):
        wanted = list(Entries(expected[row]))
        found = []
        for record in val.dataset.records:
            [prediction] = loaded.predict(record.load(), row=row)
            found += prediction.to_coco(record.id)
        assert len(found) == len(wanted) > 0
        for one, other in zip(found, wanted, strict=True):
            assert one["image_id"] == other["image_id"]
            assert one["category_id"] == other["category_id"]
            assert one["bbox"] == pytest.approx(other["bbox"], abs=2e-3)
            assert one["score"] == pytest.approx(other["score"], rel=1e-6)
    assert loaded.names == [category.name for category in val.dataset.categories]


def test_a_model_is_saved_and_read_again(trained_run, tmp_path):
    loaded = postnms.load(trained_run)
    expected = loaded.predict(ONE)[0]
    saved = tmp_path / "saved"
    for _ in range(2):  # The second time it replaces its own files.
        loaded.save_pretrained(saved)
    names = {path.name for path in saved.iterdir()}
    needed = {"recipe.json", "labels.json", "weights.safetensors", "pretrained.json"}
    assert names == needed | {"metrics.json"}
    for again in (Model.from_pretrained(saved), postnms.load(saved, device="cpu")):
        same(again.predict(ONE)[0], expected)
        assert again.categories == loaded.categories
        assert again.recipe == loaded.recipe
        assert again.best_f1 == loaded.best_f1 != {}


def test_a_model_is_not_saved_over_something_else(trained_run, tmp_path, model):
    loaded = postnms.load(trained_run)
    (tmp_path / "mine.txt").write_text("mine")
    for folder in (tmp_path, trained_run):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(UserError, match="is not a folder of 'save_pretrained'"):
            loaded.save_pretrained(folder)
        assert sorted(path.name for path in folder.iterdir()) == before
    write_json(tmp_path / "pretrained.json", {"library": "other"})
    with pytest.raises(UserError, match="is not a folder of 'save_pretrained'"):
        loaded.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no recipe to save"):
        model.save_pretrained(tmp_path / "new")


def test_a_repository_is_downloaded(trained_run, tmp_path, monkeypatch):
    """The hub itself is not asked: what it would be asked is looked at."""
    import huggingface_hub

    asked = {}

    def download(name, **options):
        asked.update(name=name, **options)
        return str(trained_run)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    loaded = Model.from_pretrained("somebody/detector", revision="v1", token="secret")
    same(loaded.predict(ONE)[0], postnms.load(trained_run).predict(ONE)[0])
    assert asked["name"] == "somebody/detector"
    assert (asked["revision"], asked["token"]) == ("v1", "secret")
    assert {"weights.safetensors", "metrics.json"} <= set(asked["allow_patterns"])

    def refuse(name, **options):
        raise OSError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=r"^somebody/detector: no such folder, and .*no network"):
        Model.from_pretrained("somebody/detector")


def test_without_the_hub_package_its_name_is_said(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install postnms\[hub\]"):
        Model.from_pretrained("somebody/detector")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.predict("nowhere.png"), "^nowhere.png: no such file or folder$"),
        (lambda model: model.predict("no/*.png"), r"^no/\*.png: no file matches this pattern$"),
        (lambda model: model.predict(7), "^images: expected images or their paths, got int$"),
        (lambda model: model.predict([PIXELS, 7]), r"^images\[1\]: .* a tensor, got int$"),
        (lambda model: model.predict([PIXELS * 1.0]), r"^images\[0\]: .*; divide by 255"),
        (lambda model: model.predict(ONE, row="best"), "^row: .* nms, post_nms, got 'best'$"),
        (lambda model: model.predict(ONE, min_score="0.3"), "^min_score: .* or 'auto', got '0.3'$"),
        (lambda model: model.predict(ONE, min_score=np.nan), "^min_score: .* or 'auto', got nan$"),
        (lambda model: model.predict(ONE, min_score=None), "^min_score: .* or 'auto', got None$"),
        (lambda model: model.predict(ONE, batch_size=0), "^batch_size: expected at least 1, got 0"),
        (lambda model: Model(model.detector, ["a"]), "^classes: .* names of 3 classes, got 1$"),
        (lambda model: postnms.load("nowhere"), "^nowhere: no such folder"),
        (lambda model: Model.from_pretrained("./nowhere"), "^./nowhere: no such folder, and no"),
    ],
)
def test_a_mistake_is_said_in_one_line(model, call, message):
    with pytest.raises(UserError, match=message):
        call(model)


def test_a_detector_in_training_mode_is_refused():
    model = Model(build("faster_rcnn", None), ["a", "b", "c"])
    model.detector.train()
    with pytest.raises(UserError, match="was put into training mode"):
        model.predict(ONE)
