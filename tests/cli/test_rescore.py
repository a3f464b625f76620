"""``train-rescorer`` and ``rescore``, from a dump to a row of ``compare``."""

import json
import re

import pytest

from postnms.candidate_files import open_candidates
from tests.support.rescoring import duplicates, found, tiny_rescorer, write_dump, write_truth

SETTINGS = ("--set", "hidden=8", "--set", "epochs=1")
KINDS = {
    "contextual": (SETTINGS, ["loss"]),
    "sce": (SETTINGS, ["stage 1 loss", "stage 1 right", "stage 2 loss", "stage 2 right"]),
    "relation": (("--set", "width=16", "--set", "epochs=1"), ["loss", "right"]),
}
"""By kind, small settings and the names of the figures that training gives."""


@pytest.fixture
def dumped(tmp_path):
    """A folder with a dump of the training split and its annotations."""
    duplicates(tmp_path, images=4)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_dump_to_a_row_of_the_comparison(postnms, dumped, kind):
    dump, rescorer, new = (dumped / f"{name}.safetensors" for name in ("train", "r", "new"))
    settings, names = KINDS[kind]
    words = ("train-rescorer", kind, dump, "--data", dumped, "--out", rescorer, *settings)
    status, shown, error = postnms(*words, "--seed", 3)
    assert (status, "note" in shown) == (0, False), error
    trained, figures = shown.splitlines()
    assert trained == f"{kind} rescorer, trained on 4 images, in {rescorer}"
    number = r"[\d.e-]+"
    assert re.fullmatch("last epoch: " + ", ".join(f"{name} {number}" for name in names), figures)
    words = ("rescore", rescorer, dump, "--data", dumped, "--out", new)
    status, shown, error = postnms(*words)
    assert status == 0, error
    assert f"row {kind}: " in shown
    (entry,) = open_candidates(new).provenance["rescored"]
    assert (entry["row"], entry["seed"], entry["rescorer"]) == (kind, 3, "r.safetensors")
    assert entry["command"].startswith("postnms rescore ")
    assert postnms("rescore", rescorer, new, *words[3:], "--name", "again")[0] == 0
    words = ("compare", new, "--data", dumped, "--suppressor", "nms", "--bootstrap", 0)
    status, shown, error = postnms(*words, "--out", dumped / "compared")
    assert status == 0, error
    rows = json.loads((dumped / "compared" / "compare.json").read_text())["rows"]
    names = [row["name"] for row in rows]
    assert names == ["nms", "run again", f"run {kind}", "oracle_box"]


def test_a_dump_of_scenes_needs_no_data(postnms, trained_run, tmp_path):
    dump, rescorer, new = (tmp_path / f"{name}.safetensors" for name in ("c", "r", "n"))
    assert postnms("dump", trained_run, "--out", dump, "--split", "val")[0] == 0
    status, shown, error = postnms(
        "train-rescorer", "contextual", dump, "--out", rescorer, *SETTINGS
    )
    assert status == 0, error
    assert "note: c.safetensors is of the split val: train on one of 'train'" in shown
    status, shown, error = postnms("rescore", rescorer, dump, "--out", new)
    assert (status, "note: the rescorer was trained on these images" in shown) == (0, True), error
    assert "contextual" in open_candidates(new).rows


def test_what_was_trained_on_is_told(postnms, dumped):
    path = dumped / "train.safetensors"
    rescorer = dumped / "r.safetensors"
    facts = {"annotations_sha256": "0", "weights_sha256": "1"}
    write_dump(path, [found([3, 2])], **facts)
    write_truth(dumped / "instances_train.json", [[(0, 4, 4, 20, 20)], []])
    words = ("contextual", path, "--data", dumped, "--out", rescorer, *SETTINGS)
    status, shown, _ = postnms("train-rescorer", *words)
    assert (status, "is not the file that train.safetensors was made with" in shown) == (0, True)
    _, shown, _ = postnms("rescore", rescorer, path, "--data", dumped, "--out", dumped / "n")
    assert "note: the rescorer was trained on these images" in shown
    assert "another detector" not in shown
    write_dump(path, [found([3, 2])], annotations_sha256="5", weights_sha256="2")
    _, shown, _ = postnms("rescore", rescorer, path, "--data", dumped, "--out", dumped / "n")
    assert "note: the rescorer was trained on the candidates of another detector" in shown
    assert "these images" not in shown


def test_mistakes_are_one_line_and_nothing_is_written(postnms, dumped):
    rescorer, dump, out = (dumped / f"{name}.safetensors" for name in ("r", "train", "o"))
    other = dumped / "other.safetensors"
    tiny_rescorer(classes=("cell", "dots")).save(other)
    tiny_rescorer().save(rescorer)
    train = ("train-rescorer", "sce", dump, "--data", dumped, "--out")
    apply = ("rescore", rescorer, dump, "--data", dumped, "--out")
    unsized = dumped / "unsized"
    unsized.mkdir()
    ids = list(range(1, 5))
    write_truth(unsized / "instances_train.json", [[]] * 4, ids, sized=False)
    before = {path: path.read_bytes() for path in dumped.rglob("*") if path.is_file()}
    text = dumped / "instances_train.json"
    for words, message in (
        ((*train, out, "--set", "epoch=3"), "sce.epoch: no such field (did you mean 'epochs'?)"),
        ((*train, out, "--set", "epochs"), "--set: epochs: expected PATH=VALUE"),
        ((*train, dump), f"--out: {dump}: is there and is no rescorer; name another"),
        (
            ("rescore", other, *apply[2:], out),
            "classes: expected ['cell', 'dots'], those that the rescorer was trained",
        ),
        ((*apply, text), f"--out: {text}: is there and is no file of candidates; name another"),
        (("rescore", dump, *apply[2:], out), "expected a rescorer that 'postnms train-rescorer'"),
        ((*apply[:4], unsized, "--out", out), "images[0].height: expected an integer >= 1"),
        (("rescore", rescorer, text, *apply[3:], out), "expected a file of candidates, got JSON"),
        ((*apply[:3], "--out", out), "needs the annotations of its images"),
    ):
        status, _, shown = postnms(*words)
        lines = [line for line in shown.splitlines() if line.startswith("postnms: ")]
        assert (status, len(lines)) == (2, 1), shown
        assert message in lines[0]
    assert {path: path.read_bytes() for path in dumped.rglob("*") if path.is_file()} == before


def test_a_seed_that_is_none_is_refused(postnms, dumped):
    words = ("contextual", dumped / "train.safetensors", "--data", dumped, "--out", dumped / "o")
    for seed in (-1, 2**32, 10**30):
        status, _, shown = postnms("train-rescorer", *words, "--seed", seed)
        assert (status, "Traceback" in shown, "'--seed'" in shown) == (2, False, True), shown


def test_a_split_without_truth_is_no_training(postnms, dumped):
    text = dumped / "instances_train.json"
    text.write_text(text.read_text().replace('"annotations"', '"none"'))
    dump = dumped / "train.safetensors"
    words = ("train-rescorer", "sce", dump, "--data", dumped, "--out", dumped / "o")
    status, _, shown = postnms(*words)
    assert status == 2
    assert f"{text}: annotations: expected some, got none" in shown
