"""``postnms predict`` draws a user's images and writes results for them."""

import json

from PIL import Image


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
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    names = [entry["file_name"].rsplit("in/")[-1] for entry in entries]
    assert names == ["a.png", "deep/a.png", "deep/b.jpg"]


def test_predict_leaves_out_what_it_cannot_read_and_says_so(postnms, trained_run, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    for name in ("a.png", "c.png"):
        Image.new("RGB", (50, 70), "red").save(tmp_path / name)
    for _ in range(2):  # The second time there are pictures in the folder of the images.
        status, shown, errors = postnms("predict", trained_run, tmp_path, "--out", tmp_path / "out")
        assert status == 2
        assert "2 pictures and COCO results" in shown
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


def test_a_picture_that_cannot_be_written_does_not_end_the_job(postnms, trained_run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    longest = "n" * 248 + ".png"  # The name fits a file system, that of a temporary file does not.
    for name in (longest, "a.png"):
        Image.new("RGB", (50, 70), "red").save(folder / name)
    status, shown, errors = postnms("predict", trained_run, folder, "--out", tmp_path / "out")
    assert (status, "1 pictures and COCO results" in shown) == (2, True)
    assert "1 of 2 images left out" in errors
    assert (tmp_path / "out" / "a.png").is_file()
    assert json.loads((tmp_path / "out" / "results_nms.json").read_text())
