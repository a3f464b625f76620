"""``postnms export`` says what is wrong before it exports, and what it exports.

``make test-export`` makes exports. Here a file of a few bytes takes the place of one.
"""

import pytest
from PIL import Image

from postnms.export import check, writer


@pytest.fixture
def quick(monkeypatch):
    """Write a small file in place of an export, which takes a minute."""

    def export(model, path, form, provenance):
        path.write_bytes(b"file")
        return writer.metadata_of(model, form, provenance)

    monkeypatch.setattr(writer, "export", export)


def test_a_run_that_is_not_done_gives_its_last_checkpoint_and_says_so(
    postnms, any_run, quick, tmp_path
):
    status, shown, _ = postnms("export", any_run, "--out", tmp_path / "model.onnx")
    rows = "nms, post_nms" if "post_nms" in (any_run / "metrics.json").read_text() else "nms"
    assert status == 0
    assert f"rows {rows}, dynamic batch, height, width" in shown
    assert "not trained to its end" not in shown
    (any_run / "weights.safetensors").unlink()
    (tmp_path / "model.onnx").unlink()
    status, shown, _ = postnms("export", any_run, "--out", tmp_path / "model.onnx")
    assert status == 0
    assert "is not trained to its end; its last checkpoint is exported" in shown


def test_mistakes_are_told_in_one_line_before_the_export(postnms, trained_run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x09\x12")
    (tmp_path / "cut.pt2").write_bytes(b"PK")
    out = ["--out", tmp_path / "model.onnx"]
    pt2, program = ["--out", tmp_path / "model.pt2"], ["--format", "torch_export"]
    for words, expected in {
        (*out, "--check", tmp_path / "empty"): "no image in",
        (*out, "--check", tmp_path / "none"): "no such file or folder",
        (*out, "--check", tmp_path / "text.png"): "cannot be read as an image",
        (*out, *program): "--out: expected a name that ends in .pt2 for the format torch_export",
        (
            *pt2,
            *program,
            "--around-nms",
        ): "--format: expected onnx with --around-nms, got torch_export",
        ("--out", tmp_path / "cut.onnx"): "is there and is no exported model; name another",
        ("--out", tmp_path / "cut.pt2", *program): "is there and is no exported model",
    }.items():
        status, shown, errors = postnms("export", trained_run, *words)
        assert status == 2
        assert shown == ""
        assert expected in errors
        assert len(errors.splitlines()) == 1
    assert not (tmp_path / "model.onnx").exists()


def test_predict_tells_what_it_does_not_take(postnms, tmp_path):
    Image.new("RGB", (70, 70)).save(tmp_path / "image.png")
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x09\x12")
    (tmp_path / "model.pt2").write_bytes(b"PK")
    out = ["--out", tmp_path / "out"]
    for model, words, expected in (
        ("cut.onnx", out, "onnxruntime does not take it"),
        ("none.onnx", out, "no such file"),
        ("cut.onnx", [], "--out: name a folder for pictures and results, or pass --json -"),
        ("model.pt2", out, "got a program of torch.export; export it with --format onnx"),
    ):
        status, shown, errors = postnms("predict", tmp_path / model, tmp_path / "image.png", *words)
        assert (status, shown, len(errors.splitlines())) == (2, "", 1)
        assert expected in errors


@pytest.mark.parametrize("detections", [0, 3])
def test_a_check_without_a_detection_says_that_it_says_nothing(
    postnms, trained_run, quick, monkeypatch, tmp_path, detections
):
    found = [check.Parity("nms", 1, detections, detections, (), 0.0, 0.0)]
    monkeypatch.setattr(writer, "open_exported", lambda path, form: None)
    monkeypatch.setattr(check, "compare", lambda *_: found)
    Image.new("RGB", (70, 70)).save(tmp_path / "image.png")
    words = ("--out", tmp_path / "model.onnx", "--check", tmp_path / "image.png")
    status, shown, _ = postnms("export", trained_run, *words)
    assert status == 0
    assert ("the run finds nothing in these images" in shown) == (detections == 0)
