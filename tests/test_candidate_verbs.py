"""From a run, or another detector's boxes, to a file of candidates, a table, and an analysis."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from postnms import UserError
from postnms.analysis.comparison import compare, count_rows
from postnms.analysis.diagnosis import analyse
from postnms.analysis.oracle import ORACLE
from postnms.analysis.sweeps import sweep
from postnms.candidate_files.columns import REFINED
from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.replays import replay
from postnms.candidate_files.truth import open_truth
from postnms.candidate_files.writer import CandidateWriter
from postnms.clustering import cluster
from postnms.data.dataset import Category
from postnms.data.formats.coco import read_truth
from postnms.evaluation.metrics import coco_metrics
from postnms.structures import Candidates
from postnms.suppression import SUPPRESSORS, get_suppressor
from tests.suppression.test_suppressors import random_candidates
from tests.test_cli import any_run, postnms, run_folder  # noqa: F401  (fixtures)


def write_truth(path, images, classes=3, seed=0):
    """Three objects an image, where :func:`random_candidates` has its boxes."""
    random = np.random.default_rng(seed)
    annotations = []
    for image in range(images):
        for _ in range(3):
            box = [*(80 * random.random(2)), *(10 + 30 * random.random(2))]
            entry = {
                "image_id": 10 + image,
                "category_id": 1 + int(random.integers(classes)),
                "bbox": box,
            }
            annotations.append({"id": len(annotations) + 1, **entry})
    content = {
        "images": [{"id": 10 + image} for image in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1 + label, "name": f"class {label}"} for label in range(classes)],
    }
    path.write_text(json.dumps(content))
    return read_truth(path)


def around_objects(truth, image_ids):
    """Eight boxes about each object of the images, most of them of its class."""
    random = np.random.default_rng(0)
    objects = [
        entry
        for entry in truth.content["annotations"]
        if entry["image_id"] in image_ids
        for _ in range(8)
    ]
    boxes = np.array([entry["bbox"] for entry in objects]) + random.normal(0, 2, (len(objects), 4))
    boxes[:, 2:] += boxes[:, :2]
    labels = [(entry["category_id"] - 1 + (random.random() < 0.1)) % 3 for entry in objects]
    return Candidates(
        torch.tensor(boxes, dtype=torch.float32),
        torch.tensor(random.random(len(objects)), dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor([image_ids.index(entry["image_id"]) for entry in objects]),
        torch.arange(len(objects)),
        len(image_ids),
    )


def picture_width(path):
    with Image.open(path) as picture:
        return picture.width


@pytest.fixture
def small(tmp_path):
    """A truth of five images and a file of candidates of them."""
    truth = write_truth(tmp_path / "instances_val.json", 5)
    with CandidateWriter(
        tmp_path / "c.safetensors", truth.categories, "instances_val.json", {}
    ) as writer:
        for start in (0, 3):
            ids = range(10 + start, 13 if start == 0 else 15)
            writer.add(around_objects(truth, ids), ids)
    return open_candidates(tmp_path / "c.safetensors"), truth


def test_replay_is_the_suppressor_on_every_image(small, monkeypatch):
    file, _ = small
    monkeypatch.setattr("postnms.candidate_files.replays.IMAGES_AT_ONCE", 2)
    ((_, whole),) = file.chunks(images=5)
    found = replay(file, SUPPRESSORS["soft_nms_linear"]).detections
    wanted = SUPPRESSORS["soft_nms_linear"](whole)
    for name in ("boxes", "scores", "labels", "image", "source"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=0, atol=0)


def test_rows_are_evaluated_as_coco_does(small, tmp_path):
    file, truth = small
    rows = {
        row.name: row for row in compare(file, truth, {"wbf": SUPPRESSORS["wbf"]}, bootstrap=50)
    }
    assert list(rows) == ["nms", "wbf", ORACLE]
    assert count_rows(file, {"wbf": SUPPRESSORS["wbf"]}) == 3
    ((_, whole),) = file.chunks(images=5)
    found = SUPPRESSORS["wbf"](whole)
    results = [
        {
            "image_id": 10 + image,
            "category_id": 1 + label,
            "bbox": [x, y, right - x, bottom - y],
            "score": score,
        }
        for image, label, score, (x, y, right, bottom) in zip(
            found.image.tolist(),
            found.labels.tolist(),
            found.scores.tolist(),
            found.boxes.tolist(),
            strict=True,
        )
    ]
    reference = COCO()
    reference.dataset = {**truth.content, "info": {}}
    reference.createIndex()
    evaluator = COCOeval(reference, reference.loadRes(results), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert rows["wbf"].figures["AP"] == pytest.approx(100 * evaluator.stats[0], abs=1e-3)
    assert rows["wbf"].gain == rows["wbf"].figures["AP"] - rows["nms"].figures["AP"]
    assert rows["wbf"].low <= rows["wbf"].high
    assert (rows["nms"].gain, rows["nms"].low, rows["nms"].high) == (0, 0, 0)
    assert rows[ORACLE].figures["AP"] > rows["nms"].figures["AP"]
    assert rows[ORACLE].milliseconds is None


def test_a_sweep_changes_one_field():
    swept = sweep({"nms": SUPPRESSORS["nms"], "none": SUPPRESSORS["none"]}, "iou=0.3:0.7:0.2")
    assert list(swept) == [
        "nms",
        "none",
        "nms:iou_threshold=0.3",
        "nms:iou_threshold=0.5",
        "nms:iou_threshold=0.7",
    ]
    assert swept["nms:iou_threshold=0.7"] == get_suppressor("nms:iou_threshold=0.7")
    twice = sweep(sweep({"nms": SUPPRESSORS["nms"]}, "iou=0.3:0.4:0.1"), "iou=0.6:0.6:1")
    assert list(twice) == [
        "nms",
        "nms:iou_threshold=0.3",
        "nms:iou_threshold=0.4",
        "nms:iou_threshold=0.6",
    ]
    own = {"nms:iou=0.4": get_suppressor("nms:iou=0.4")}
    assert list(sweep(own, "max_detections=50:100:50")) == [
        "nms:iou=0.4", "nms:iou=0.4:max_detections=50", "nms:iou=0.4:max_detections=100",
    ]  # fmt: skip
    with pytest.raises(
        UserError, match="none of the suppressors has a field 'iou_threshold' that is not set"
    ):
        sweep(own, "iou=0.3:0.4:0.1")
    for text in (
        "iou=0:1e-8:1e-10",
        "iou=0.3",
        "iou=0.3:0.2:0.1",
        "iou=0:1:0",
        "=0:1:0.5",
        "iou=a:b:c",
        "iou=0:inf:1",
    ):
        with pytest.raises(UserError, match=f"--sweep {text}: expected FIELD=FIRST:LAST:STEP"):
            sweep({"nms": SUPPRESSORS["nms"]}, text)
    with pytest.raises(
        UserError, match=r"no.*field 'sigmas' that is not set \(did you mean 'sigma'\?\)"
    ):
        sweep({"soft": SUPPRESSORS["soft_nms_gaussian"]}, "sigmas=0:1:0.5")
    with pytest.raises(UserError, match=r"nms.iou_threshold: .*less than or equal to 1, got 2"):
        sweep({"nms": SUPPRESSORS["nms"]}, "iou=1:2:1")


def test_analysis_counts_duplicates_where_all_rows_come(small):
    file, truth = small
    analysis = analyse(file, truth, {"none": SUPPRESSORS["none"], "nms": SUPPRESSORS["nms"]})
    least = min(row.max_recall for row in analysis.rows.values())
    assert analysis.recall <= least < analysis.recall + 0.05 + 1e-9
    for count in range(1, 4):  # reached exactly, or nearly so, by some
        few = {"few": get_suppressor(f"nms:max_detections={count}")}
        assert analyse(file, truth, few).rows["few"].duplicates is not None
    assert all(row.duplicates is not None for row in analysis.rows.values())
    assert analysis.after is None
    few = {"few": get_suppressor("nms:max_detections=1")}
    assert analyse(file, truth, few, recall=1.0).rows["few"].duplicates is None


def test_empty_candidates_give_a_table_of_zeros(tmp_path):
    truth = write_truth(tmp_path / "t.json", 2)
    none = torch.zeros(0, dtype=torch.int64)
    with CandidateWriter(tmp_path / "c.safetensors", truth.categories, "t.json", {}) as writer:
        writer.add(Candidates(torch.zeros(0, 4), torch.zeros(0), none, none, none, 2), [10, 11])
    file = open_candidates(tmp_path / "c.safetensors")
    rows = compare(
        file, truth, {name: SUPPRESSORS[name] for name in ("wbf", "confluence")}, bootstrap=3
    )
    assert [row.figures["AP"] for row in rows] == [0, 0, 0, 0]
    assert (
        analyse(file, truth, {"nms": SUPPRESSORS["nms"]}).rows["nms"].errors.counts["missed"] == 6
    )


def test_the_truth_must_be_of_the_images(small, tmp_path):
    file, truth = small
    assert open_truth(file, tmp_path).content == truth.content
    assert open_truth(file, tmp_path / "instances_val.json").content == truth.content
    with pytest.raises(
        UserError, match=r"--data: .*c.safetensors needs the annotations.*\(instances_val.json\)"
    ):
        open_truth(file, None)
    write_truth(tmp_path / "other.json", 6)
    with pytest.raises(UserError, match=r"got 0 that are not in .*other.json, which has 1 more"):
        open_truth(file, tmp_path / "other.json")
    write_truth(tmp_path / "other.json", 5, classes=4)
    with pytest.raises(UserError, match=r"categories: expected a subset .*got also 4 'class 3'"):
        open_truth(file, tmp_path / "other.json")
    content = json.loads((tmp_path / "instances_val.json").read_text())
    del content["annotations"]
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotations: expected a list, got nothing"):
        open_truth(file, tmp_path / "other.json")


@pytest.mark.slow
def test_a_dump_gives_the_rows_of_the_run(any_run, postnms, tmp_path):  # noqa: F811
    """On candidates that the run's own detections are made of, greedy NMS gives the run's NMS row."""
    file = tmp_path / "c.safetensors"
    status, shown, error = postnms("dump", any_run, "--out", file)
    assert status == 0, error
    candidates = open_candidates(file)
    assert f"{candidates.num_candidates} candidates of {len(candidates)} images" in shown
    assert postnms("eval", any_run)[0] == 0
    metrics = json.loads((any_run / "metrics.json").read_text())
    rows = {
        row.name: row for row in compare(candidates, open_truth(candidates, None), {}, bootstrap=0)
    }
    for row in candidates.rows:
        figures = {name: value for name, value in metrics[row].items() if value is not None}
        assert {name: rows[f"run {row}"].figures[name] for name in figures} == pytest.approx(
            figures, abs=0.02
        )
    assert rows["nms"].figures["AP"] == pytest.approx(metrics["nms"]["AP"], abs=0.02)
    has_stage = "post_nms" in candidates.rows
    assert (candidates.extra == (REFINED,)) == has_stage == ("post_nms" in candidates.milliseconds)
    assert candidates.provenance["recipe"]["name"] == "demo"
    if has_stage:  # the stage moves keys to where its own row has them
        ((_, whole),) = candidates.chunks(images=len(candidates))
        clusters, moved = cluster(whole), candidates.row("post_nms")
        keys = {
            (
                whole.image[key].item(),
                whole.labels[key].item(),
                whole.source[key].item(),
            ): whole.extra[REFINED][key]
            for key in clusters.keys.tolist()
        }
        found = zip(moved.image.tolist(), moved.labels.tolist(), moved.source.tolist(), strict=True)
        wanted = torch.stack([keys[row] for row in found])
        torch.testing.assert_close(moved.boxes, wanted, rtol=1e-4, atol=1e-2)
        assert not torch.allclose(whole.boxes, whole.extra[REFINED], atol=1e-2)
    assert len(candidates.provenance["weights_sha256"]) == 64


@pytest.mark.slow
def test_a_lower_threshold_and_a_limit(run_folder, postnms, tmp_path):  # noqa: F811
    more, few = tmp_path / "more.safetensors", tmp_path / "few.safetensors"
    assert postnms("dump", run_folder, "--out", more, "--score-threshold", 0.001)[0] == 0
    assert (
        postnms(
            "dump", run_folder, "--out", few, "--score-threshold", 0.001, "--max-candidates", 7
        )[0]
        == 0
    )
    more, few = open_candidates(more), open_candidates(few)
    assert few.offsets.diff().max() <= 7
    assert more.num_candidates > few.num_candidates
    for name in more.rows:  # the run's own selection all the same
        torch.testing.assert_close(more.row(name).boxes, few.row(name).boxes)


def test_annotations_that_have_changed_are_pointed_out(postnms, tmp_path):  # noqa: F811
    write_truth(tmp_path / "t.json", 2)
    (tmp_path / "d.json").write_text("[]")
    file = tmp_path / "c.safetensors"
    assert (
        postnms(
            "import-candidates", tmp_path / "d.json", "--data", tmp_path / "t.json", "--out", file
        )[0]
        == 0
    )
    write_truth(tmp_path / "t.json", 2, seed=1)
    given = (
        "compare",
        file,
        "--data",
        tmp_path / "t.json",
        "--out",
        tmp_path,
        "--suppressor",
        "nms",
        "--bootstrap",
        1,
    )
    assert "note: " in postnms(*given)[1]


def test_fewer_classes_and_images_in_another_order(small, tmp_path):
    file, _ = small
    content = json.loads((tmp_path / "instances_val.json").read_text())
    content["images"].reverse()
    content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] < 3]
    (tmp_path / "reversed.json").write_text(json.dumps(content))
    content["categories"] = content["categories"][:2]
    content["images"].reverse()
    (tmp_path / "fewer.json").write_text(json.dumps(content))
    truths = [open_truth(file, tmp_path / name) for name in ("fewer.json", "reversed.json")]
    rules = {"soft": SUPPRESSORS["soft_nms_linear"]}
    fewer, back = (compare(file, truth, rules, bootstrap=9) for truth in truths)
    for row, other in zip(fewer, back, strict=True):
        assert row.figures == other.figures
        assert (row.low, row.high) == (other.low, other.high)
    assert fewer[1].low < fewer[1].high


def test_the_baseline_keeps_its_defaults(small):
    file, truth = small
    with pytest.raises(ValueError, match="'nms' is the baseline with its defaults"):
        compare(file, truth, {"nms": SUPPRESSORS["wbf"]})


def test_the_verbs_on_candidates(postnms, tmp_path):  # noqa: F811
    truth = write_truth(tmp_path / "instances_val.json", 4)
    found = random_candidates(100, 4, extra=False)
    results = [
        {
            "image_id": 10 + image,
            "category_id": 1 + label,
            "bbox": [x, y, right - x, bottom - y],
            "score": score,
        }
        for image, label, score, (x, y, right, bottom) in zip(
            found.image.tolist(),
            found.labels.tolist(),
            found.scores.tolist(),
            found.boxes.tolist(),
            strict=True,
        )
    ]
    (tmp_path / "dets.json").write_text(json.dumps(results))
    file, out = tmp_path / "c.safetensors", tmp_path / "out"
    status, shown, _ = postnms(
        "import-candidates", tmp_path / "dets.json", "--data", tmp_path, "--out", file
    )
    assert (status, shown.split(" in ")[0]) == (0, "100 candidates of 4 images")
    status, shown, error = postnms(
        "compare", file, "--data", tmp_path, "--suppressor", "none,wbf:model_weights=[2]", "--sweep", "iou=0.4:0.5:0.1",
        "--bootstrap", 5, "--out", out,
    )  # fmt: skip
    assert status == 0, error
    assert "wbf:model_weights=[2]:iou_threshold=0.4" in shown
    with (out / "compare.csv").open() as text:
        rows = list(csv.DictReader(text))
    names = ["nms", "none", "wbf:model_weights=[2]", "wbf:model_weights=[2]:iou_threshold=0.4"]
    assert [row["suppressor"] for row in rows] == [
        *names,
        "wbf:model_weights=[2]:iou_threshold=0.5",
        ORACLE,
    ]
    alone = coco_metrics(truth.content, results)
    assert "note:" not in shown
    assert float(rows[1]["AP"]) == pytest.approx(alone["AP"], rel=1e-4)
    described = json.loads((out / "compare.json").read_text())
    assert described["candidates"]["results"] == "dets.json"
    assert described["rows"][3]["settings"]["iou_threshold"] == 0.4
    assert picture_width(out / "compare.png") > 1000

    status, shown, error = postnms(
        "analyse", file, "--data", tmp_path, "--suppressor", "nms,none", "--out", out
    )
    assert status == 0, error
    assert "localisation" in shown
    described = json.loads((out / "analyse.json").read_text())
    assert list(described["rows"]) == ["nms", "none"]
    assert len(described["placement"]["before"]["KeyIoU"]["histogram"]) == 20
    assert picture_width(out / "errors.png") > 1000
    assert picture_width(out / "placement.png") > 1000


def test_all_suppressors_that_a_file_has_the_columns_for(postnms, tmp_path):  # noqa: F811
    write_truth(tmp_path / "t.json", 2)
    categories = tuple(Category(1 + label, f"class {label}") for label in range(3))
    with CandidateWriter(tmp_path / "c.safetensors", categories, "t.json", {}) as writer:
        writer.add(random_candidates(60, 2), [10, 11])
    status, shown, _ = postnms(
        "compare", tmp_path / "c.safetensors", "--data", tmp_path / "t.json", "--out", tmp_path
    )
    assert status == 0
    assert "left out" not in shown
    assert all(f"\n{name} " in shown for name in SUPPRESSORS)


def test_suppressors_are_listed_as_they_can_be_asked_for(postnms):  # noqa: F811
    shown = postnms("suppressors")[1]
    listed = [line for line in shown.splitlines() if not line.startswith((" ", "all have"))]
    assert [line.split(":")[0] for line in listed] == list(SUPPRESSORS)
    for line in listed:
        assert get_suppressor(line) == SUPPRESSORS[line.split(":")[0]]


def test_mistakes_are_one_line(postnms, tmp_path):  # noqa: F811
    write_truth(tmp_path / "t.json", 2)
    categories = tuple(Category(1 + label, f"class {label}") for label in range(3))
    with CandidateWriter(tmp_path / "c.safetensors", categories, "t.json", {}) as writer:
        writer.add(random_candidates(60, 2, extra=False), [10, 11])
    given = [
        "compare",
        tmp_path / "c.safetensors",
        "--data",
        tmp_path,
        "--out",
        tmp_path / "out",
        "--suppressor",
    ]
    for names, message in (
        ("nmss", "postnms: suppressor: no 'nmss' (did you mean 'nms'?)"),
        ("nms:iou=2", "postnms: nms.iou_threshold: input should be less than or equal to 1, got 2"),
        ("adaptive_nms", "postnms: AdaptiveNMS: needs the extra column 'density'"),
    ):
        status, _, error = postnms(*given, names)
        assert status == 2
        assert message in error
    assert not (tmp_path / "out").exists()
    taken = (
        "import-candidates",
        tmp_path / "d.json",
        "--data",
        tmp_path / "t.json",
        "--out",
        tmp_path / "t.json",
    )
    before = (tmp_path / "t.json").read_text()
    assert "t.json: is there and is no file of candidates; name another" in postnms(*taken)[2]
    assert (tmp_path / "t.json").read_text() == before
    status, _, error = postnms(
        "compare", tmp_path / "no.safetensors", "--data", tmp_path, "--out", tmp_path / "out"
    )
    assert (status, "no.safetensors: no such file" in error) == (2, True)
