"""``postnms predict`` draws a user's images and writes results for them."""

import csv
import json
import signal

import pytest
from PIL import Image, ImageColor

from postnms.drawing.boxes import THIN
from postnms.errors import UserError
from postnms.inference import image_files


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
        *("1_a.png", "2_a.png", "b.png", "images.json", "journal.jsonl", "labels.json"),
        "predict.json",
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


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_a_signal_stops_has_results_and_goes_on(
    postnms, trained_run, tmp_path, monkeypatch, end
):
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    for i in range(20):
        Image.new("RGB", (50, 70), "red").save(images / f"{i:02d}.png")
    words = ("predict", trained_run, images, "--out", out)
    save_picture = image_files.save_picture

    def stop_after_the_sixth(picture, path):
        save_picture(picture, path)
        if path.name == "05.png":
            signal.raise_signal(end)

    monkeypatch.setattr(image_files, "save_picture", stop_after_the_sixth)
    # A shell that starts the tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    status, _, shown = postnms(*words)
    signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(image_files, "save_picture", save_picture)
    assert status == 128 + end
    assert "predict: stopped; what is done is kept" in shown
    assert "Traceback" not in shown
    ids = [entry["id"] for entry in json.loads((out / "images.json").read_text())]
    results = json.loads((out / "results_nms.json").read_text())
    assert 5 <= len(ids) < 20
    assert {entry["image_id"] for entry in results} == set(ids)
    status, shown, _ = postnms(*words)
    assert (status, f"20 pictures ({len(ids)} were done before)" in shown) == (0, True)


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


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.radial_gradient("L").resize((150, 70)).convert("RGB").save(folder / "a.png")
    Image.radial_gradient("L").resize((60, 64)).save(folder / "deep" / "b.jpg")
    (folder / "note.txt").write_text("no image")
    return folder


def test_json_alone_is_on_stdout(postnms, trained_run, pictures):
    (pictures / "broken.png").write_text("no image")
    words = ("predict", trained_run, pictures, "--json", "-", "--min-score", 0)
    status, shown, errors = postnms(*words)
    lines = [json.loads(line) for line in shown.splitlines()]
    assert status == 2
    assert "1 of 3 images left out" in errors
    assert "1 files with other endings left out: .txt 1" in errors
    assert [line["file_name"].rsplit("in/")[-1] for line in lines] == [
        *("a.png", "broken.png", "deep/b.jpg")
    ]
    assert "cannot be read" in lines[1]["error"]
    first = lines[0]
    assert (first["height"], first["width"], first["row"]) == (70, 150, "post_nms")
    assert first["detections"]
    for found in first["detections"]:
        assert found["name"] in ("disc", "ring", "square", "triangle", "star")
        assert 0 <= found["x1"] < found["x2"] <= 150
    scores = [found["score"] for found in first["detections"]]
    assert scores == sorted(scores, reverse=True)


def test_json_is_the_same_with_and_without_a_folder(postnms, trained_run, pictures, tmp_path):
    words = ("predict", trained_run, str(pictures / "**" / "*.*"), "--min-score", 0.01)
    alone = postnms(*words, "--json", "-", "--row", "nms", "--tile", 64)
    beside = postnms(*words, "--json", "-", "--row", "nms", "--tile", 64, "--out", tmp_path / "out")
    assert (alone[0], beside[0]) == (0, 0)
    assert "2 pictures and COCO results" in beside[2]
    for one, other in zip(alone[1].splitlines(), beside[1].splitlines(), strict=True):
        one, other = json.loads(one), json.loads(other)
        assert (one["file_name"], one["row"]) == (other["file_name"], other["row"])
        assert len(one["detections"]) == len(other["detections"]) > 0
        for found, expected in zip(one["detections"], other["detections"], strict=True):
            assert found["name"] == expected["name"]
            assert found["score"] == expected["score"]
            assert found["x1"] == pytest.approx(expected["x1"], abs=2e-3)
    file = tmp_path / "lines.jsonl"
    status, shown, _ = postnms(*words, "--json", file, "--row", "nms", "--tile", 64)
    assert (status, file.read_text()) == (0, alone[1])
    assert "files with other endings left out" in shown
    assert postnms(*words, "--json", file, "--row", "nms", "--tile", 64)[0] == 0


@pytest.mark.parametrize(
    "text", ['{"images": []}', '[{"file_name": "a.jpg"}]', "a.jpg\n", "\udcff"]
)
def test_lines_of_json_do_not_replace_a_file_of_the_user(
    postnms, trained_run, pictures, tmp_path, text
):
    (tmp_path / "mine.json").write_bytes(text.encode(errors="surrogateescape"))
    words = ("predict", trained_run, pictures, "--json", tmp_path / "mine.json")
    status, _, shown = postnms(*words)
    named = f"--json: {tmp_path / 'mine.json'}: is there and is no file of 'postnms predict --json'"
    assert status == 2
    assert named in shown.splitlines()[-1]
    assert (tmp_path / "mine.json").read_bytes() == text.encode(errors="surrogateescape")


def test_further_formats_have_names_and_agree(postnms, trained_run, pictures, tmp_path):
    out = tmp_path / "out"
    words = ("predict", trained_run, pictures, "--out", out, "--min-score", 0)
    formats = ("--format", "csv", "--format", "yolo", "--format", "coco")
    assert postnms(*words, *formats)[0] == 0
    names = ["disc", "ring", "square", "triangle", "star"]
    assert (out / "classes.txt").read_text().split() == names
    assert [entry["name"] for entry in json.loads((out / "labels.json").read_text())] == names
    for row in ("nms", "post_nms"):
        results = json.loads((out / f"results_{row}.json").read_text())
        content = json.loads((out / f"coco_{row}.json").read_text())
        assert [entry["name"] for entry in content["categories"]] == names
        sizes = [(entry["width"], entry["height"]) for entry in content["images"]]
        assert sizes == [(150, 70), (60, 64)]
        kept = ("image_id", "category_id", "bbox", "score")
        assert [{name: a[name] for name in kept} for a in content["annotations"]] == results
        with (out / f"detections_{row}.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert len(table) == len(results) > 0
        for line, result in zip(table, results, strict=True):
            assert int(line["image_id"]) == result["image_id"]
            assert names[int(line["label"])] == line["name"]
            assert float(line["score"]) == result["score"]
            assert float(line["x1"]) == pytest.approx(result["bbox"][0])
            width = float(line["x2"]) - float(line["x1"])
            assert width == pytest.approx(result["bbox"][2], abs=2e-3)
        text = (out / f"labels_{row}" / "a.txt").read_text()
        own = [result for result in results if result["image_id"] == 1]
        for line, result in zip(text.splitlines(), own, strict=True):
            label, x, _, width, _, score = map(float, line.split())
            assert names[int(label)] == names[result["category_id"] - 1]
            assert x == pytest.approx((result["bbox"][0] + result["bbox"][2] / 2) / 150, abs=1e-5)
            assert width == pytest.approx(result["bbox"][2] / 150, abs=1e-5)
            assert score == result["score"]
    # The same images again, without formats: those files would no longer be of this job.
    assert "2 were done before" in postnms(*words)[1]
    assert not [*out.glob("*.csv"), *out.glob("coco_*"), *out.glob("labels_*/*.txt")]


def store_best_f1(run, **scores):
    """Write thresholds into the metrics of a run, as an evaluation does."""
    rest = {"f1": 0.5, "precision": 0.5, "recall": 0.5}
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["best_f1"] = {row: {"score": score, **rest} for row, score in scores.items()}
    (run / "metrics.json").write_text(json.dumps(metrics))


def test_auto_shows_each_row_from_its_own_threshold(
    postnms, run_folder, pictures, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    assert postnms("predict", run_folder, pictures, "--out", out)[0] == 0
    found = {
        row: sorted(
            entry["score"] for entry in json.loads((out / f"results_{row}.json").read_text())
        )
        for row in ("nms", "post_nms")
    }
    # A third of the boxes of one row and two thirds of those of the other one are shown.
    parts = {"nms": 1, "post_nms": 2}
    least = {row: scores[-len(scores) * parts[row] // 3] for row, scores in found.items()}
    store_best_f1(run_folder, **least)
    drawn = []
    draw = image_files.draw_detections

    def keep(image, detections, names, min_score, clusters):
        drawn.append(min_score)
        return draw(image, detections, names, min_score, clusters)

    monkeypatch.setattr(image_files, "draw_detections", keep)
    words = ("predict", run_folder, pictures, "--out", out, "--both", "--min-score", "auto")
    status, shown, _ = postnms(*words, "--format", "csv", "--json", tmp_path / "lines.jsonl")
    assert status == 0
    told = ", ".join(f"{row} {score:.3f}" for row, score in least.items())
    assert f"least scores, with the best F1 on val: {told}" in shown
    assert drawn == [least["nms"], least["post_nms"]] * 2
    for row, scores in found.items():
        count = sum(score >= least[row] for score in scores)
        lines = (out / f"detections_{row}.csv").read_text().splitlines()
        assert (
            len(lines) - 1
            == count
            < len(scores)
            == len(json.loads((out / f"results_{row}.json").read_text()))
        )
    lines = (tmp_path / "lines.jsonl").read_text().splitlines()
    of_json = sorted(e["score"] for line in lines for e in json.loads(line)["detections"])
    assert of_json == [score for score in found["post_nms"] if score >= least["post_nms"]]
    alone = postnms("predict", run_folder, pictures, "--json", "-", "--min-score", "auto")
    assert "least scores, with the best F1 on val: post_nms " in alone[2]
    assert len(alone[1].splitlines()) == 2
    assert "2 were done before" in postnms(*words)[1]


def test_auto_without_a_threshold_says_what_to_run(postnms, run_folder, pictures):
    words = ("predict", run_folder, pictures, "--json", "-", "--min-score", "auto")
    store_best_f1(run_folder, nms=0.5)
    status, shown, errors = postnms(*words)
    assert (status, shown) == (2, "")
    reason = f"{run_folder} has no best F1 of post_nms with its own settings"
    assert f"postnms: --min-score: auto: {reason}; run 'postnms eval {run_folder}' first" in errors
    # A threshold for other settings than those of the run is none.
    assert postnms("eval", run_folder, "--set", "stage.fusion=[1,0,0]")[0] == 0
    assert reason.removesuffix("with its own settings") in postnms(*words)[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--out: name a folder for pictures and results, or pass --json -"),
        (("--format", "csv", "--json", "-"), "--format: expected --out, the folder to write to"),
        (("--json", "-", "--row", "best"), "--row: expected one of nms, post_nms, got 'best'"),
        *[
            (
                ("--json", "-", "--min-score", text),
                f"--min-score: expected a number from 0 to 1 or auto, got {text}",
            )
            for text in ("best", "1.5", "-1", "nan")
        ],
        (("--json", "-", "--class-agnostic", "2"), "--class-agnostic: expected an IoU from 0 to 1"),
        (("--json", "-", "--tile", "9", "--overlap", "1"), "--overlap: expected a share from 0"),
        (("--json", "-", "--tile", "9", "--suppressor", "nmms"), "suppressor: no 'nmms'"),
        (("--json", "-", "--device", "nowhere"), "--device: cannot compute on nowhere"),
        (("--out", "OUT", "--format", "xml"), "--format: expected some of coco, csv, yolo"),
        (("--json", "-", "--both"), "--both: expected --out, the folder to write to, too"),
        (("--json", "-", "--suppressed"), "--suppressed: expected --out"),
        (("--json", "-", "--overlap", "0.2"), "--overlap: expected --tile, the side of the tiles"),
        (("--json", "-", "--suppressor", "nms"), "--suppressor: expected --tile"),
        (("--out", "OUT", "--suppressed", "--tile", "9"), "--suppressed: expected no --tile"),
    ],
)
def test_a_wrong_option_is_named(postnms, trained_run, pictures, tmp_path, words, message):
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    status, shown, errors = postnms("predict", trained_run, pictures, *words)
    assert (status, shown) == (2, "")
    assert f"postnms: {message}" in errors


def test_a_pattern_that_matches_nothing_is_said(postnms, trained_run, tmp_path):
    status, _, errors = postnms("predict", trained_run, tmp_path / "*.png", "--json", "-")
    assert status == 2
    assert "*.png: no file matches this pattern" in errors


def test_suppressed_boxes_are_drawn_on_request(postnms, trained_run, tmp_path):
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "a.png")
    thin = []
    for words in ((), ("--suppressed",)):
        given = ("predict", trained_run, tmp_path / "a.png", "--min-score", 0, *words)
        assert postnms(*given, "--out", tmp_path / "out")[0] == 0
        with Image.open(tmp_path / "out" / "a.png") as picture:
            colours = picture.convert("RGB").getcolors(1 << 24)
        thin.append(sum(count for count, rgb in colours if rgb == ImageColor.getrgb(THIN)))
    assert thin[0] == 0
    assert thin[1] > 20
