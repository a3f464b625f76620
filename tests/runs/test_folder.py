"""The files of a run folder are read back as they were written."""

import json

import pytest
import torch

from postnms.data.dataset import Category
from postnms.errors import UserError
from postnms.evaluation.columns import concatenate_columns, to_columns
from postnms.evaluation.results import Evaluation, to_results
from postnms.runs.folder import (
    RunFolder,
    begin_run,
    hold_run,
    read_categories,
    read_data_folder,
    read_recipe,
    write_results,
)
from postnms.structures import Detections
from tests.support.runs import tiny

NOTHING = concatenate_columns([], [])


def test_a_run_folder_is_read_back(trained_run):
    folder = RunFolder(trained_run)
    assert json.loads(folder.provenance.read_text())["seed"] == 0
    names = [category.name for category in read_categories(folder)]
    assert names == ["disc", "ring", "square", "triangle", "star"]
    parts = sorted(json.loads(folder.metrics.read_text()))
    assert parts == ["best_f1", "classes", "gains", "nms", "post_nms"]
    assert read_recipe(folder) == tiny("training.iterations=2")
    assert read_data_folder(folder) is None


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begin(folder):
    begin_run(RunFolder(folder), tiny(), (Category(1, "disc"),), None, resume=False)


def test_a_folder_with_other_files_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in ("pictures/holiday.png", "results_2024.json", "metrics.json"):
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    message = r"out: .* holds files, and is not a run \(no recipe.json of this library\)"
    with pytest.raises(UserError, match=message), hold_run(RunFolder(tmp_path)):
        begin(tmp_path)
    assert contents(tmp_path) == before


def test_a_new_run_removes_what_the_earlier_one_wrote_and_nothing_else(tmp_path):
    run = RunFolder(tmp_path)
    begin(tmp_path)
    write_results(run, None, {"nms": NOTHING, "post_nms": NOTHING})
    (tmp_path / "pictures").mkdir()
    for name in ("pictures/val_0.png", "pictures/mine.png", "results_mine.json", "mine.txt"):
        (tmp_path / name).write_text("")
    outside = tmp_path.parent / "outside.png"
    outside.write_text("")
    run.pictures.write_text(json.dumps(["pictures/val_0.png", "../outside.png", str(outside)]))
    begin(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in contents(tmp_path)}
    mine = {"pictures/mine.png", "results_mine.json", "mine.txt"}
    assert left == {"recipe.json", "labels.json", "provenance.json"} | mine
    assert outside.is_file()


def test_results_of_rows_that_are_gone_are_removed_and_those_of_the_user_stay(tmp_path):
    run = RunFolder(tmp_path)
    write_results(run, None, {"nms": NOTHING, "post_nms": NOTHING})
    (tmp_path / "results_mine.json").write_text("[]")
    write_results(run, None, {"nms": NOTHING})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["results_mine.json", "results_nms.json"]


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_the_file_of_results_is_the_json_of_the_dicts(tmp_path, count):
    """5,000 results are more than the text of which is in memory together."""
    random = torch.Generator().manual_seed(count)
    boxes = torch.rand(count, 4, generator=random) * 300
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.rand(count, generator=random)
    labels = torch.randint(3, (count,), generator=random)
    image = torch.randint(4, (count,), generator=random).sort().values
    detections = Detections(boxes, scores, labels, image, torch.arange(count), 4)
    factors = 0.5 + torch.rand(4, 2, generator=random).double()
    given = detections, [2**60, "a\u00e9 1", 7, 0], factors, [90, 1, 18]
    write_results(RunFolder(tmp_path), None, {"nms": to_columns(*given)})
    written = RunFolder(tmp_path).results("nms").read_text("utf-8")
    assert written == json.dumps(to_results(*given)) + "\n"


@pytest.mark.parametrize(
    ("file", "text", "read"),
    [
        ("recipe.json", "[1]", read_recipe),
        ("recipe.json", "[" * 100_000, read_recipe),
        ("labels.json", '{"a": 1}', read_categories),
        ("labels.json", "[[]]", read_categories),
        ("labels.json", "7", read_categories),
        ("provenance.json", "[]", read_data_folder),
        ("provenance.json", '{"data_folder": 3}', read_data_folder),
        ("provenance.json", '{"data_folder": null, "resumed": 1}', read_data_folder),
        ("provenance.json", '{"data_folder": null, "resumed": [1]}', read_data_folder),
        ("labels.json", '[{"id": "1", "name": "disc"}]', read_categories),
        ("labels.json", '[{"id": 1, "name": 2}]', read_categories),
    ],
)
def test_a_damaged_file_of_a_run_is_named(tmp_path, file, text, read):
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=file):
        read(RunFolder(tmp_path))


def test_a_new_run_removes_the_figures_of_all_splits(tmp_path):
    begin(tmp_path)
    folder = RunFolder(tmp_path)
    for split in ("val", "test", "night"):
        write_results(folder, None, {"nms": NOTHING}, split)
        folder.metrics_of(split).write_text("{}")
    own = ["metrics.json", "metrics.test.json", "results_nms.json", "results_nms.night.json"]
    assert all((tmp_path / name).is_file() for name in own)
    (tmp_path / "metrics.mine.json").write_text("{}")
    begin(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "labels.json",
        "metrics.mine.json",
        "provenance.json",
        "recipe.json",
    ]


@pytest.mark.parametrize("names", [["../../x"], [3], {"a": 1}, ["a/b"], [""], {"a/b": None}, 7])
def test_a_damaged_list_of_splits_removes_nothing(tmp_path, names):
    begin(tmp_path)
    (tmp_path / "splits.json").write_text(json.dumps(names))
    before = contents(tmp_path)
    with pytest.raises(
        UserError, match=r"splits\.json: expected a list of splits, got another form"
    ):
        begin(tmp_path)
    assert contents(tmp_path) == before


def test_a_damaged_list_of_pictures_removes_nothing(tmp_path):
    run = RunFolder(tmp_path)
    begin(tmp_path)
    run.checkpoint.write_text("")
    for text in ("{}", "[1]", "["):
        run.pictures.write_text(text)
        with pytest.raises(UserError, match=r"pictures\.json"):
            begin(tmp_path)
    assert run.checkpoint.is_file()


def test_a_run_that_goes_on_elsewhere_remembers_its_last_data(tmp_path):
    run = RunFolder(tmp_path / "run")
    categories = (Category(1, "disc"),)
    begin_run(run, tiny(), categories, tmp_path / "first", resume=False)
    assert read_data_folder(run) == tmp_path / "first"
    begin_run(run, tiny("data.workers=3"), categories, tmp_path / "second", resume=True)
    assert read_data_folder(run) == tmp_path / "second"
    assert read_recipe(run).data.workers == 3


def test_figures_of_an_earlier_evaluation_do_not_stay_beside_results_without_figures(tmp_path):
    run = RunFolder(tmp_path)
    write_results(run, Evaluation({}), {"nms": NOTHING})
    assert run.metrics_of("val").is_file()
    write_results(run, None, {"nms": NOTHING})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results_nms.json"]
