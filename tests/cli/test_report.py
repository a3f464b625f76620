"""``postnms report`` writes one page about runs, dumps and comparisons."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from postnms.report.clusters import run_detector
from postnms.report.opening import open_source
from tests.support.reports import HOSTILE, Page, hostile_copy

FAST = ("--bootstrap", 20, "--images", 4)


@pytest.fixture
def scenes(postnms, tmp_path):
    """The built-in scenes as a data folder, like those of the tiny run."""
    folder = tmp_path / "scenes"
    words = ("scenes", "--out", folder, "--train", 2, "--val", 3, "--size", 64)
    assert postnms(*words)[0] == 0
    return folder


@pytest.fixture
def report(postnms, tmp_path):
    """Write a report; return the page."""

    def call(*words):
        out = tmp_path / "report.html"
        status, _, error = postnms("report", *FAST, *words, "--out", out)
        assert status == 0, error
        return Page(out)

    return call


def test_a_run_has_a_page_that_asks_nothing_of_a_network(report, trained_run):
    page = report(trained_run)
    assert "post-NMS" in page.text
    assert "3 images" in page.text
    (subject,) = page.data["subjects"]
    assert list(subject["rows"]) == ["nms", "post_nms"]
    assert len(subject["index"]) == 3
    case = subject["cases"][0]
    assert case["picture"].startswith("data:image/jpeg;base64,")
    assert all(0 <= box[9] < len(case["clusters"]) for row in case["rows"].values() for box in row)
    assert sum(len(row) for row in case["rows"].values()) > 0
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "action"), (name, value)
        assert name != "href" or value.startswith(("#", "data:,")), value
    assert "://" not in page.html.replace("http://www.w3.org/2000/svg", "")
    assert "default-src 'none'" in page.html


def write_sizes(folder, names):
    """Write val images of different sizes with an object each; ``names`` are those of classes."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, objects = [], []
    for number, (width, height) in enumerate([(64, 64), (96, 64), (64, 90), (70, 64)], 1):
        pixels = random.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        images.append(
            {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        )
        box = [5, 5, 30, 30]
        objects.append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    content = {"images": images, "annotations": objects, "categories": categories}
    (folder / "instances_val.json").write_text(json.dumps(content))


def test_rows_of_the_viewer_are_those_of_the_evaluation(report, postnms, run_folder, tmp_path):
    """The detector looks again at the chosen images alone, which their neighbours had padded."""
    data = tmp_path / "sizes"
    write_sizes(
        data, [entry["name"] for entry in json.loads((run_folder / "labels.json").read_text())]
    )
    assert postnms("eval", run_folder, "--data", data)[0] == 0

    def check(row, image, scores, tolerance):
        results = json.loads((run_folder / f"results_{row}.sizes.val.json").read_text())
        wanted = sorted(result["score"] for result in results if result["image_id"] == image)
        assert sorted(scores) == pytest.approx(wanted, abs=tolerance)

    run = open_source(run_folder, data, None).run
    for image in (1, 2, 3, 4):
        rows = run_detector(run, [image], tmp_path).part(0, 1)[1]
        for row in ("nms", "post_nms"):
            check(row, image, rows[row].scores.tolist(), 1e-5)
    (subject,) = report(run_folder, "--data", data, "--images", 2).data["subjects"]
    for case in subject["cases"]:
        image = int(case["name"].partition(".")[0])
        for row in ("nms", "post_nms"):
            check(row, image, [box[5] for box in case["rows"][row]], 1e-4)


def test_a_run_without_a_stage_says_so(report, trained_bare_run):
    page = report(trained_bare_run)
    assert "there is no stage" in page.text
    assert page.data["subjects"][0]["after"] is None
    assert page.data["subjects"][0]["cases"]


def test_a_run_that_is_still_trained_is_shown_as_it_is(report, postnms, run_folder, tmp_path):
    (run_folder / "weights.safetensors").unlink()
    page = report(run_folder)
    assert "has not ended: this is its checkpoint after 2 of 2 iterations" in page.text
    assert "Where clusters lie" in page.text
    (run_folder / "checkpoint.safetensors").unlink()
    status, _, error = postnms("report", run_folder, "--out", tmp_path / "no.html")
    assert (status, "expected weights or a checkpoint" in error) == (2, True)
    assert not (tmp_path / "no.html").exists()


def test_run_dump_and_comparison_of_a_detector_are_one(report, postnms, run_folder, tmp_path):
    dump, compared = tmp_path / "c.safetensors", tmp_path / "compared"
    assert postnms("dump", run_folder, "--out", dump)[0] == 0
    words = ("--suppressor", "soft_nms_linear,none", "--bootstrap", 5, "--out", compared)
    assert postnms("compare", dump, *words)[0] == 0
    page = report(run_folder, compared)
    assert len(page.data["subjects"]) == 1
    for name in ("soft_nms_linear", "oracle_box", "AP against time", "Where clusters lie"):
        assert name in page.text
    dump.unlink()
    page = report(compared)
    assert page.data["subjects"] == []
    assert "neither in the folder nor beside it" in page.text
    assert "soft_nms_linear" in page.text


def test_a_dump_that_lacks_a_row_of_the_run_is_named(postnms, run_folder, tmp_path):
    dump, out = tmp_path / "c.safetensors", tmp_path / "report.html"
    assert postnms("dump", run_folder, "--out", dump)[0] == 0
    assert postnms("eval", run_folder, "--set", "stage.suppressor=soft_nms_linear")[0] == 0
    status, _, error = postnms("report", run_folder, dump, *FAST, "--out", out)
    assert (status, error.count("\n") < 4) == (2, True), error
    assert "c.safetensors: no row 'post_nms+soft_nms_linear'" in error


def test_runs_of_different_data_are_refused(postnms, trained_run, scenes, tmp_path):
    dump, out = tmp_path / "other.safetensors", tmp_path / "report.html"
    for seed, file in ((0, dump), (1, tmp_path / "one.safetensors")):
        words = ("dump", trained_run, "--set", f"seed={seed}", "--out", file)
        assert postnms(*words)[0] == 0
    status, _, error = postnms("report", dump, tmp_path / "one.safetensors", "--out", out)
    assert status == 2
    assert "make one report for each data set" in error
    assert not out.exists()


@pytest.fixture
def hostile(run_folder, scenes, tmp_path):
    """A run and its data, in which a class and an image file have hostile names."""
    data = hostile_copy(scenes, tmp_path / "hostile")
    labels = json.loads((run_folder / "labels.json").read_text())
    labels[0]["name"] = HOSTILE
    (run_folder / "labels.json").write_text(json.dumps(labels))
    return run_folder, data


def test_names_of_classes_and_files_are_text(report, hostile):
    run, data = hostile
    page = report(run, "--data", data)
    assert len(page.scripts) == 2
    assert page.data["subjects"][0]["classes"][0] == HOSTILE
    assert HOSTILE in page.text
    assert any(row[0].startswith("<b>") for row in page.data["subjects"][0]["index"])
    assert "<script>window" not in page.html
    assert "<b>scene" not in page.html


def test_what_utf_8_cannot_hold_of_a_name_is_an_escape(report, postnms, run_folder, scenes):
    assert postnms("eval", run_folder, "--data", scenes)[0] == 0
    file = scenes / "instances_val.json"
    content = json.loads(file.read_text())
    for number, image in enumerate(content["images"]):
        image["file_name"] = f"{number} Größe \udcff.png"
    file.write_text(json.dumps(content))
    page = report(run_folder, "--data", scenes)
    assert re.search(r"\d Größe \\udcff\.png", page.text)
    assert page.data["subjects"][0]["index"][0][0] == "0 Größe \udcff.png"


def test_a_missing_image_is_named_in_its_place(report, postnms, hostile):
    run, data = hostile
    assert postnms("eval", run, "--data", data)[0] == 0
    (whole, *_) = report(run, "--data", data).data["subjects"][0]["cases"]
    assert whole["picture"]
    (file,) = (data / "images").rglob(whole["name"])
    file.unlink()
    (case, *_) = report(run, "--data", data).data["subjects"][0]["cases"]
    assert (case["name"], case["picture"], case["rows"]) == (whole["name"], None, {})
    assert "is missing" in case["problem"]
    assert case["truth"] == whole["truth"]


def test_only_a_report_is_replaced(postnms, trained_run, tmp_path):
    out = tmp_path / "notes.html"
    out.write_text("<p>mine</p>")
    status, _, error = postnms("report", trained_run, *FAST, "--out", out)
    assert (status, "--out: " in error, out.read_text()) == (2, True, "<p>mine</p>")
    out.unlink()
    for _ in range(2):
        assert postnms("report", trained_run, *FAST, "--out", out)[0] == 0


BAD = [
    (("nowhere",), "nowhere: expected a run (recipe.json), a folder of 'postnms compare'"),
    ((".",), ".: expected a run (recipe.json), a folder of 'postnms compare'"),
    (("RUN", "--row", "post_nmss"), "--row: no row 'post_nmss' (did you mean 'post_nms'?)"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=lambda value: str(value)[:20])
def test_mistakes_are_one_line(postnms, trained_run, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    given = [trained_run if word == "RUN" else word for word in words]
    status, _, error = postnms("report", *given, "--out", "report.html")
    assert status == 2
    assert message in error
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"candidates": {}, "rows": []}, "rows: expected at least one"),
        ({"candidates": {}, "rows": [{"name": 3}]}, "rows[0]: expected an object with a name"),
        (
            {"candidates": 3, "rows": [{"name": "a", "figures": {}}]},
            "candidates: expected an object",
        ),
        (
            {"candidates": {}, "rows": [{"name": "a", "figures": {"AP": "x"}}]},
            "rows[0].AP: expected a number or null, got 'x'",
        ),
    ],
)
def test_a_damaged_comparison_is_named(postnms, tmp_path, content, message):
    (tmp_path / "compare.json").write_text(json.dumps(content))
    status, _, error = postnms("report", tmp_path, "--out", tmp_path / "report.html")
    assert (status, message in error) == (2, True), error
