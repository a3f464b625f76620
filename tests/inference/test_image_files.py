"""Pictures of a user's images get names of their own, and what is done is not done again."""

import json

import pytest
from PIL import Image

from postnms.data import workers as data_workers
from postnms.errors import UserError
from postnms.inference import image_files, reading
from postnms.inference.image_files import Drawing, predict_files
from postnms.inference.looking import Look
from postnms.runs.folder import RunFolder, read_categories
from postnms.runs.loading import load_detector
from tests.support.runs import tiny

PLAIN = Drawing()
LOOK = Look(tiny().detector.input_size)


@pytest.fixture
def predict(trained_run, tmp_path):
    """Predict for images of the given names, which are made if they are missing."""
    folder = RunFolder(trained_run)
    detector = load_detector(folder)

    def call(*names, out="out", look=LOOK, drawing=PLAIN, about=None, workers=0):
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                Image.new("RGB", (40, 30), "green").save(path)
        categories, where = read_categories(folder), tmp_path / out
        return predict_files(
            detector, look, categories, paths, where, drawing, about, workers=workers
        )

    return call


def written(folder):
    """The files of a folder, and the ids of the images in each row's results."""
    names = sorted(path.name for path in folder.iterdir())
    results = [json.loads((folder / f"results_{row}.json").read_text()) for row in ROWS]
    ids = [sorted({entry["image_id"] for entry in row}) for row in results]
    assert ids[0] == ids[1]
    return [name for name in names if name.endswith(".png")], ids[0]


ROWS = ("nms", "post_nms")
OTHERS = {
    "predict.json",
    "labels.json",
    "journal.jsonl",
    "images.json",
    *(f"results_{row}.json" for row in ROWS),
}


def test_pictures_are_named_as_their_images(predict, tmp_path):
    predicted = predict("a.png", "b.jpg")
    assert (list(predicted.detections), predicted.unread) == (["nms", "post_nms"], [])
    assert written(tmp_path / "out") == (["a.png", "b.png"], [1, 2])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png"} | OTHERS


def test_images_of_one_name_are_numbered(predict, tmp_path):
    predict("a.png", "deep/A.jpg", "b.jpg", "1_a.png")
    assert written(tmp_path / "out")[0] == ["1_a.png", "2_A.png", "4_1_a.png", "b.png"]
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [(entry["id"], entry["picture"]) for entry in entries] == [
        (1, "1_a.png"),
        (2, "2_A.png"),
        (3, "b.png"),
        (4, "4_1_a.png"),
    ]


def test_files_of_the_user_in_the_folder_are_not_replaced(predict, tmp_path):
    predict("a.png")
    (tmp_path / "out" / "b.png").write_text("mine")
    predict("b.jpg")
    assert (tmp_path / "out" / "b.png").read_text() == "mine"
    assert written(tmp_path / "out") == (["2_b.png", "a.png", "b.png"], [1, 2])


def test_an_image_is_not_overwritten(predict, tmp_path):
    with pytest.raises(UserError, match=r"^out: .* holds files, and is not a folder of 'predict'"):
        predict("a.png", out=".")
    predict("a.png")
    before = (tmp_path / "out" / "a.png").read_bytes()
    with pytest.raises(UserError, match=r"^out: .*: a\.png would overwrite an input"):
        predict("a.png", "out/a.png")
    assert (tmp_path / "out" / "a.png").read_bytes() == before


def test_what_is_done_is_skipped_and_what_has_changed_is_not(predict, tmp_path):
    names = ["a.png", "b.png", "c.png"]
    first = predict(*names)
    assert (first.skipped, predict(*names).skipped) == (0, 3)
    Image.new("RGB", (44, 30), "red").save(tmp_path / "a.png")
    (tmp_path / "out" / "b.png").unlink()
    again = predict(*names, "new.png")
    assert (again.skipped, again.unread) == (1, [])
    assert written(tmp_path / "out") == (["a.png", "b.png", "c.png", "new.png"], [1, 2, 3, 4])
    entries = map(json.loads, (tmp_path / "out" / "journal.jsonl").read_text().splitlines())
    stamps = {entry["stamp"][0] for entry in entries if entry["id"] == 1 and "stamp" in entry}
    assert len(stamps) == 2  # The file had one size and then another.


def test_the_results_of_two_jobs_are_those_of_one(predict, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.radial_gradient("L").convert("RGB").rotate(ord(name[0])).save(tmp_path / name)
    predict("a.png", "b.png", "c.png")
    predict("a.png", "b.png", out="parts")
    predict("a.png", "b.png", "c.png", out="parts")
    for name in OTHERS - {"journal.jsonl"}:
        text = (tmp_path / "parts" / name).read_text()
        assert text == (tmp_path / "out" / name).read_text()


def test_other_settings_or_weights_do_all_images_again(predict, tmp_path):
    predict("a.png", "b.png", about={"weights": 1})
    assert predict("a.png", about={"weights": 1}).skipped == 1
    assert predict("a.png", about={"weights": 2}).skipped == 0
    assert written(tmp_path / "out") == (["a.png"], [1])
    assert predict("a.png", about={"weights": 2}, drawing=Drawing(both=True)).skipped == 0


def test_another_look_at_the_images_begins_anew(predict, tmp_path):
    predict("a.png")
    before = (tmp_path / "out" / "results_nms.json").read_text()
    one_of_all = Look(LOOK.size, class_agnostic=0.0)
    assert predict("a.png", look=one_of_all).skipped == 0
    assert len((tmp_path / "out" / "results_nms.json").read_text()) < len(before)
    assert predict("a.png", look=one_of_all).skipped == 1
    assert predict("a.png").skipped == 0
    assert (tmp_path / "out" / "results_nms.json").read_text() == before


def test_results_of_rows_that_another_detector_has_not_are_removed(
    predict, trained_bare_run, tmp_path
):
    predict("a.png")
    folder = RunFolder(trained_bare_run)
    detector = load_detector(folder)
    classes = read_categories(folder)
    predict_files(detector, LOOK, classes, [tmp_path / "a.png"], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(OTHERS - {"results_post_nms.json"}),
        "a.png",
    }


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, MemoryError])
def test_a_job_that_is_stopped_has_results_and_goes_on(predict, tmp_path, monkeypatch, end):
    names = [f"{i}.png" for i in range(4)]
    predict(*names, out="whole")
    look_at, calls = image_files.look_at, []

    def stop_at_the_third(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise end
        return look_at(*arguments, **options)

    monkeypatch.setattr(image_files, "look_at", stop_at_the_third)
    with pytest.raises(end):
        predict(*names)
    assert written(tmp_path / "out") == (["0.png", "1.png"], [1, 2])
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [entry["id"] for entry in entries] == [1, 2]
    assert predict(*names).skipped == 2
    for name in ("images.json", "results_nms.json", "results_post_nms.json"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]],  # half a line at the end
        lambda lines: [*lines[:-1], b"{\n"],
        lambda lines: [*lines[:-1], b'{"id": 3, "file_name": 3}\n'],
        lambda lines: [*lines[:-1], lines[-1].replace(b'"c.png"', b'"../c.png"')],
        lambda lines: [*lines[:-1], b"\xff\n"],
    ],
)
def test_a_damaged_line_costs_its_image_alone(predict, tmp_path, damage):
    predict("a.png", "b.png", "c.png")
    journal = tmp_path / "out" / "journal.jsonl"
    journal.write_bytes(b"".join(damage(journal.read_bytes().splitlines(keepends=True))))
    assert predict("a.png", "b.png", "c.png").skipped == 2
    assert written(tmp_path / "out") == (["a.png", "b.png", "c.png"], [1, 2, 3])


def test_an_image_that_could_not_be_read_is_tried_again(predict, tmp_path):
    (tmp_path / "b.png").write_text("no image")
    for _ in range(2):
        predicted = predict("a.png", "b.png")
        assert len(predicted.unread) == 1
        entries = json.loads((tmp_path / "out" / "images.json").read_text())
        assert ["error" in entry for entry in entries] == [False, True]
    (tmp_path / "b.png").unlink()
    assert predict("a.png", "b.png").unread == []
    assert written(tmp_path / "out") == (["a.png", "b.png"], [1, 2])


def test_workers_change_nothing(predict, tmp_path, monkeypatch):
    """Also for an image that cannot be read, and for one that is too large to be read ahead."""
    monkeypatch.setattr(data_workers, "IMAGES_A_WORKER", 1)
    monkeypatch.setattr(reading, "LARGE", 40 * 60)
    (tmp_path / "b.png").write_text("no image")
    Image.new("RGB", (40, 60), "blue").save(tmp_path / "c.png")
    names = ("a.png", "b.png", "c.png", "d.png")
    plain = predict(*names, out="plain")
    ahead = predict(*names, out="ahead", workers=2)
    assert ahead == plain
    assert "b.png: cannot be read as an image" in ahead.unread[0]
    for path in (tmp_path / "plain").iterdir():
        assert (tmp_path / "ahead" / path.name).read_bytes() == path.read_bytes(), path.name
    assert predict(*names, out="ahead", workers=2).skipped == 3


def test_files_are_read_in_other_processes_and_large_ones_here(tmp_path, monkeypatch):
    monkeypatch.setattr(data_workers, "IMAGES_A_WORKER", 1)
    monkeypatch.setattr(reading, "LARGE", 1200)
    here = []
    original = reading.load_image
    monkeypatch.setattr(
        reading, "load_image", lambda path, **rest: here.append(path) or original(path, **rest)
    )
    paths = [tmp_path / "small.png", tmp_path / "large.png", tmp_path / "none.png"]
    Image.new("RGB", (40, 29), "green").save(paths[0])
    Image.new("L", (40, 30), 77).save(paths[1])
    small, large, none = reading.read_files(paths, 1)
    assert here == [paths[1]]
    assert (small.image.size, small.image.getpixel((39, 28))) == ((40, 29), (0, 128, 0))
    assert large.image.getpixel((0, 0)) == (77, 77, 77)
    assert small.stamp[0] == paths[0].stat().st_size
    assert (none.image, none.stamp) == (None, [0, 0])
    assert "none.png: no such image" in none.error
