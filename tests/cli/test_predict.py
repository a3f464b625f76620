"""``postnms predict`` draws a user's images and writes results for them."""

import json
import signal
import time

import pytest
from PIL import Image

from postnms.errors import UserError
from postnms.inference import image_files
from tests.support.processes import launched


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
    assert written == [
        *("1_a.png", "2_a.png", "b.png", "images.json", "journal.jsonl", "predict.json"),
        *results,
    ]
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    names = [entry["file_name"].rsplit("in/")[-1] for entry in entries]
    assert names == ["a.png", "deep/a.png", "deep/b.jpg"]


def test_predict_leaves_out_what_it_cannot_read_and_says_so(postnms, trained_run, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    for name in ("a.png", "c.png"):
        Image.new("RGB", (50, 70), "red").save(tmp_path / name)
    for before in ("", " (2 were done before)"):
        # The second time there are pictures in the folder of the images.
        status, shown, errors = postnms("predict", trained_run, tmp_path, "--out", tmp_path / "out")
        assert status == 2
        assert f"2 pictures{before} and COCO results" in shown
        assert "postnms: 1 of 3 images left out: " in errors
        assert "broken.png: cannot be read as an image" in errors
    assert (tmp_path / "out" / "c.png").is_file()
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    could_be_read = [(entry["id"], "error" not in entry) for entry in entries]
    assert could_be_read == [(1, True), (2, False), (3, True)]
    results = json.loads((tmp_path / "out" / "results_nms.json").read_text())
    assert {entry["image_id"] for entry in results} == {1, 3}


def test_predict_does_not_write_into_a_folder_that_is_not_its_own(postnms, trained_run, tmp_path):
    Image.new("RGB", (50, 70), "red").save(tmp_path / "a.png")
    other = tmp_path / "other"
    other.mkdir()
    (other / "results_nms.json").write_text("mine")
    for folder in (other, trained_run):
        before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        status, _, shown = postnms("predict", trained_run, tmp_path / "a.png", "--out", folder)
        assert status == 2
        assert f"postnms: --out: {folder}: holds files, and is not a folder of 'predict'" in shown
        assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_an_image_may_have_the_longest_name(postnms, trained_run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("n" * 251 + ".png", "a.png"):
        Image.new("RGB", (50, 70), "red").save(folder / name)
    assert postnms("predict", trained_run, folder, "--out", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / ("n" * 200 + ".png")).is_file()


def test_a_picture_that_cannot_be_written_does_not_end_the_job(
    postnms, trained_run, tmp_path, monkeypatch
):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (50, 70), "red").save(tmp_path / name)
    save = image_files.save_picture

    def refuse_b(picture, path):
        if path.name == "b.png":
            raise UserError(f"{path}: could not be written")
        save(picture, path)

    monkeypatch.setattr(image_files, "save_picture", refuse_b)
    status, shown, errors = postnms("predict", trained_run, tmp_path, "--out", tmp_path / "out")
    assert (status, "1 pictures and COCO results" in shown) == (2, True)
    assert "1 of 2 images left out" in errors
    assert (tmp_path / "out" / "a.png").is_file()
    assert json.loads((tmp_path / "out" / "results_nms.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_a_signal_stops_has_results_and_goes_on(postnms, trained_run, tmp_path, end):
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    for i in range(60):
        Image.new("RGB", (50, 70), "red").save(images / f"{i:02d}.png")
    words = ("predict", trained_run, images, "--out", out)
    job = launched(1, "postnms", *words)
    while not (out / "05.png").is_file():
        assert job.poll() is None, job.stderr.read().decode()
        time.sleep(0.01)
    job.send_signal(end)
    shown = job.communicate()[1].decode()
    assert job.returncode == 128 + end
    assert "predict: stopped; what is done is kept" in shown
    assert "Traceback" not in shown
    ids = [entry["id"] for entry in json.loads((out / "images.json").read_text())]
    results = json.loads((out / "results_nms.json").read_text())
    assert 5 <= len(ids) < 60
    assert {entry["image_id"] for entry in results} == set(ids)
    status, shown, _ = postnms(*words)
    assert (status, f"60 pictures ({len(ids)} were done before)" in shown) == (0, True)


def test_other_files_and_large_images_are_left_out_with_a_word(postnms, trained_run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "a.jfif", format="JPEG")
    Image.new("RGB", (41, 30)).save(folder / "b.ppm")
    for name in ("notes.txt", "more.TXT", "nothing"):
        (folder / name).write_text("")
    words = ("predict", trained_run, folder, "--out", tmp_path / "out", "--max-pixels", 1200)
    status, shown, errors = postnms(*words)
    assert status == 2
    assert "3 files with other endings left out: .txt 2, none 1" in shown
    assert "1 of 2 images left out: " in errors
    assert "b.ppm: expected at most 1,200 pixels, got 41 x 30" in errors
