"""``postnms predict model.onnx`` keeps what is done, whatever happens to an image."""

import json

import numpy as np
import pytest
from PIL import Image

from postnms.data.dataset import Category
from postnms.export import onnx_model
from postnms.export.metadata import ExportMetadata

ABOUT = ExportMetadata(
    ("nms", "post_nms"), (Category(7, "cat"),), (8, 16), {}, {"best_f1": {}}, (), {}, {}
)
SIZE = (16, 8)


def one_box(pixels):
    """The outputs of both rows: one box, whatever there is to see."""
    return [np.float32([[2, 2, 6, 4]]), np.float32([0.5]), np.int64([0]), np.int64([0])] * 2


@pytest.fixture
def model(monkeypatch, tmp_path):
    """A file that the verb takes for an exported model, which finds one box in every image."""

    class Model(onnx_model.ExportedModel):
        def __init__(self, path):
            super().__init__(ABOUT, one_box)

    monkeypatch.setattr(onnx_model, "OnnxModel", Model)
    (tmp_path / "model.onnx").write_text("a model")
    return tmp_path / "model.onnx"


@pytest.fixture
def folder(tmp_path):
    """Three images; the name of the first one is as long as a file system allows."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a" * 251, "b", "c"):
        Image.new("RGB", SIZE).save(folder / f"{name}.png")
    return folder


def read(path):
    return json.loads(path.read_text())


def test_an_image_with_a_long_name_has_its_picture(postnms, model, folder, tmp_path):
    out = tmp_path / "out"
    status, _, error = postnms("predict", model, folder, "--out", out)
    assert status == 0, error
    entries = read(out / "images.json")
    assert [entry["id"] for entry in entries] == [1, 2, 3]
    assert all((out / entry["picture"]).is_file() for entry in entries)
    for row in ABOUT.rows:
        results = read(out / f"results_{row}.json")
        assert [(r["image_id"], r["category_id"]) for r in results] == [(1, 7), (2, 7), (3, 7)]


def test_what_cannot_be_read_or_written_is_listed(postnms, model, folder, tmp_path):
    out = tmp_path / "out"
    (folder / "b.png").write_text("no image")
    words = ("predict", model, folder, "--out", out, "--json", tmp_path / "lines")
    status, _, error = postnms(*words)
    assert (status, "1 of 3 images left out: " in error) == (2, True)
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert ["error" in line for line in lines] == [False, True, False]
    assert [entry["id"] for entry in read(out / "images.json")] == [1, 3]
    assert {entry["image_id"] for entry in read(out / "results_nms.json")} == {1, 3}


def test_a_picture_that_cannot_be_written_does_not_end_the_job(
    postnms, model, folder, tmp_path, monkeypatch
):
    from postnms.cli import predict_onnx

    save = predict_onnx.save_picture

    def deny(picture, path):
        if path.name == "2_b.png":
            path = path.with_name("x" * 300)
        save(picture, path)

    monkeypatch.setattr(predict_onnx, "save_picture", deny)
    status, _, error = postnms("predict", model, folder, "--out", tmp_path / "out")
    assert (status, "could not be written" in error) == (2, True)
    results = read(tmp_path / "out" / "results_post_nms.json")
    assert [entry["image_id"] for entry in results] == [1, 3]


def test_a_job_that_is_stopped_keeps_the_results_of_what_is_done(
    postnms, model, folder, tmp_path, monkeypatch
):
    from postnms.cli import predict_onnx

    load = predict_onnx.load_image

    def stop(path, **limits):
        if path.name == "c.png":
            raise KeyboardInterrupt
        return load(path, **limits)

    monkeypatch.setattr(predict_onnx, "load_image", stop)
    out = tmp_path / "out"
    status, _, error = postnms("predict", model, folder, "--out", out)
    assert status != 0
    assert "predict: stopped; the results are those of the images that are done" in error
    assert [entry["id"] for entry in read(out / "images.json")] == [1, 2]
    assert [entry["image_id"] for entry in read(out / "results_nms.json")] == [1, 2]


@pytest.mark.parametrize(
    "words",
    [
        ("--tile", 9),
        ("--overlap", 0.5),
        ("--suppressor", "nms"),
        ("--class-agnostic", 0.5),
        ("--both",),
    ],
    ids=str,
)
def test_options_that_an_exported_model_lacks_are_named(postnms, model, folder, tmp_path, words):
    status, _, error = postnms("predict", model, folder, "--out", tmp_path / "out", *words)
    assert (status, f"postnms: {words[0]}: {model} is an exported model" in error) == (2, True)
