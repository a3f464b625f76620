"""Every verb works with any ids of images, gives the figures of ids 1..n, and keeps the ids."""

import json
import shutil

import pytest

from postnms.candidate_files.reader import open_candidates
from tests.support.runs import SETS, contents, logged

ALIKE = (1, "1", "b/0 \u00e9.jpg", "0139")
KINDS = {
    # A double cannot tell the last two apart.
    "odd numbers": lambda i: (-1, 0, 2**53, 2**53 + 1)[i] if i < 4 else 2**53 + i,
    "strings, and a number that looks like one": lambda i: ALIKE[i] if i < len(ALIKE) else f"{i}",
}


@pytest.fixture
def plain(postnms, tmp_path):
    """Return a data folder with the ids 1..n."""
    folder = tmp_path / "plain"
    assert postnms("scenes", "--out", folder, "--train", 4, "--val", 4, "--size", 64)[0] == 0
    for split in ("train", "val"):
        content = json.loads((folder / f"instances_{split}.json").read_text())
        count = len(content["images"])
        assert [entry["id"] for entry in content["images"]] == list(range(1, count + 1))
    return folder


def with_ids(plain, out, number):
    """Copy a data folder, with the id ``number(i)`` for image ``i + 1``, and annotations likewise.

    Numbers are floats where a float holds them, and names of files are those of another system.
    """
    shutil.copytree(plain, out)

    def spelled(i):
        value = number(i - 1)
        return float(value) if isinstance(value, int) and abs(value) < 2**53 else value

    for path in out.glob("instances_*.json"):
        content = json.loads(path.read_text())
        for entry in content["images"]:
            name = entry["file_name"].replace("_", "%5F").replace(".png", ".PNG")
            entry |= {"id": spelled(entry["id"]), "file_name": f"images\\{name}"}
        for entry in content["annotations"]:
            entry |= {"id": spelled(entry["id"]), "image_id": spelled(entry["image_id"])}
        path.write_text(json.dumps(content))
    return out


def renamed(files, number):
    """Return results with the ids of another numbering, and metrics unchanged."""
    return {
        name: [entry | {"image_id": number(entry["image_id"] - 1)} for entry in content]
        if isinstance(content, list)
        else content
        for name, content in files.items()
    }


def figures(postnms, file, data, out):
    """Return what ``compare`` and ``analyse`` write about a file of candidates, without times."""
    for verb, more in (("compare", ("--bootstrap", 5)), ("analyse", ())):
        words = (verb, file, "--data", data, "--out", out, "--suppressor", "nms")
        status, _, error = postnms(*words, *more)
        assert status == 0, error
    rows = json.loads((out / "compare.json").read_text())["rows"]
    analysed = json.loads((out / "analyse.json").read_text())
    compared = [{name: row[name] for name in row if name != "milliseconds"} for row in rows]
    return compared, [analysed[name] for name in ("recall", "rows", "placement")]


def test_a_run_trains_and_measures_the_same_whatever_the_ids(postnms, plain, tmp_path):
    number = KINDS["strings, and a number that looks like one"]
    odd = with_ids(plain, tmp_path / "odd", number)
    for data in (plain, odd):
        words = ("train", "demo", "--data", data, "--out", tmp_path / f"run {data.name}", *SETS)
        status, _, error = postnms(*words)
        assert status == 0, error
    runs = [tmp_path / f"run {data.name}" for data in (plain, odd)]
    assert logged(runs[1]) == logged(runs[0])
    assert contents(runs[1]) == renamed(contents(runs[0]), number)
    assert contents(runs[0])["results_nms.json"]


def test_what_a_run_measures_does_not_depend_on_ids(postnms, plain, run_folder, tmp_path):
    def measure(data, name):
        """Return figures, ids and candidates of all verbs, and the files of ``eval``."""
        assert postnms("eval", run_folder, "--data", data)[0] == 0
        kept = (f"{part}.{data.name}.val.json" for part in ("metrics", "results_nms"))
        metrics, results = (run_folder / name for name in kept)
        files = {
            file.name.partition(".")[0]: json.loads(file.read_text()) for file in (metrics, results)
        }
        dumped, imported = (tmp_path / f"{name} {n}.safetensors" for n in ("dumped", "imported"))
        assert postnms("dump", run_folder, "--data", data, "--out", dumped)[0] == 0
        words = (results, "--data", data, "--out", imported)
        assert postnms("import-candidates", *words)[0] == 0
        opened = [open_candidates(file) for file in (dumped, imported)]
        boxes = [chunk.boxes.tolist() for file in opened for _, chunk in file.chunks()]
        found = (boxes, figures(postnms, dumped, data, tmp_path / f"out {name}"))
        return found, [file.image_ids for file in opened], files

    found, _, files = measure(plain, "plain")
    for kind, number in KINDS.items():
        odd = measure(with_ids(plain, tmp_path / kind, number), kind)
        assert odd[0] == found, kind
        assert odd[1] == [tuple(number(i) for i in range(4))] * 2, kind
        assert odd[2] == renamed(files, number), kind


def test_candidates_and_annotations_with_other_ids_do_not_belong_together(
    postnms, plain, run_folder, tmp_path
):
    """The ids 1 and "1" are different."""
    odd = with_ids(plain, tmp_path / "odd", lambda i: str(i + 1))
    file = tmp_path / "c.safetensors"
    assert postnms("dump", run_folder, "--data", plain, "--out", file)[0] == 0
    status, _, error = postnms("compare", file, "--data", odd, "--out", tmp_path / "out")
    assert status == 2
    assert "expected the images of the annotations, got 4 that are not in" in error
