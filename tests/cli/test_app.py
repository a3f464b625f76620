"""The command line as a whole: its help, and mistakes of a user as one line."""

import os
import subprocess
import sys

import pytest
from PIL import Image

import postnms as postnms_package
from postnms.cli import app as cli_app
from postnms.cli.app import OPTIONS
from postnms.errors import UserError
from postnms.recipes import get_recipe
from tests.support.builders import random_candidates
from tests.support.studies import write_candidates, write_truth

VERBS = (
    "demo",
    "scenes",
    "recipes",
    "check",
    "train",
    "eval",
    "experiment",
    "predict",
    "dump",
    "import-candidates",
    "suppressors",
    "compare",
    "tune-fusion",
    "train-rescorer",
    "rescore",
    "analyse",
    "convert",
    "benchmark",
)


def test_help_names_the_verbs(postnms):
    status, shown, _ = postnms("--help")
    assert status == 0
    assert all(verb in shown for verb in VERBS)


def test_the_version_is_that_of_the_package(postnms):
    assert postnms("--version") == (0, f"postnms {postnms_package.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("postnms train faster_rcnn_r18", "faster_rcnn_r18_small"),
        ("postnms recipes show dem", "demo"),
        ("postnms compare c.safetensors --suppressor diou", "diou_nms"),
    ],
)
def test_the_shell_can_complete_names(line, expected):
    """The variables are those that the completion script of a shell sets."""
    code = "import sys; sys.argv = ['postnms']; from postnms.cli import main; main()"
    asked = {"_POSTNMS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True
    )
    assert (shown.returncode, f'"{expected}"' in shown.stdout) == (0, True), shown


def bad_lines(run, tmp_path):
    """Command lines with a mistake, and what the user is told."""
    text = tmp_path / "text.png"
    text.write_text("no image")
    other = tmp_path / "other"
    other.mkdir()
    (other / "recipe.json").write_text(get_recipe("demo", {"name": "mine"}).model_dump_json())
    new = ("--out", tmp_path / "x")
    return [
        (["train", "dmo", *new], "recipe 'dmo': no such recipe (did you mean 'demo'?)"),
        (["train", "demo", *new, "--set", "stage.widt=3"], "recipe.stage.widt: no such field"),
        (["train", "demo", *new, "--set", "seed"], "--set: seed: expected PATH=VALUE"),
        (
            ["train", "faster_rcnn_r18_small", *new],
            "--data: the recipe has no built-in data; name a data folder",
        ),
        (["train", "demo", *new, "--data", tmp_path / "no"], "no: no such folder"),
        (["train", "demo", "--out", run], "holds a run already; continue it with --resume"),
        (["demo", "--out", other], "other: holds a run that is no demo; name another --out"),
        (["train", "--resume", tmp_path / "x"], "has no checkpoint to resume from"),
        (["eval", tmp_path], "not a run folder (no recipe.json)"),
        (
            ["predict", run, tmp_path / "no", "--out", tmp_path / "o"],
            "no such file or folder",
        ),
        (["predict", run, text, "--out", tmp_path / "o"], "text.png: cannot be read as an image"),
        (["scenes", "--out", text / "s"], "Not a directory"),
        (["scenes", "--out", text], "--out: "),
    ]


def test_mistakes_are_one_clear_line(postnms, trained_run, tmp_path):
    for words, message in bad_lines(trained_run, tmp_path):
        status, _, shown = postnms(*words)
        lines = [line for line in shown.splitlines() if line.startswith("postnms: ")]
        assert status == 2, words
        assert len(lines) == 1, shown
        assert message in lines[0]
        assert "Traceback" not in shown


@pytest.mark.parametrize(("argument", "option"), OPTIONS.items())
def test_a_mistake_in_an_argument_names_the_option_instead(postnms, monkeypatch, argument, option):
    def fail():
        raise UserError(f"the {argument}: of no use", argument=argument)

    monkeypatch.setattr(cli_app, "app", fail)
    assert postnms()[2] == f"postnms: {option}: the {argument}: of no use\n"


def test_a_mistake_in_another_argument_keeps_its_name(postnms, monkeypatch):
    def fail():
        raise UserError("of no use", argument="detector")

    monkeypatch.setattr(cli_app, "app", fail)
    assert postnms()[2] == "postnms: detector: of no use\n"


def test_options_that_stand_for_arguments_exist(postnms, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    verbs = ("train", "eval", "dump", "compare", "predict", "experiment", "rescore", "reproduce")
    shown = [postnms(verb, "--help")[1] for verb in verbs]
    for option in OPTIONS.values():
        assert any(option in text for text in shown), option


WRITING = {
    "demo": ("demo",),
    "train": ("train", "demo"),
    "scenes": ("scenes",),
    "predict": ("predict", "RUN", "IMAGE"),
    "compare": ("compare", "CANDIDATES", "--data", "DATA"),
    "analyse": ("analyse", "CANDIDATES", "--data", "DATA"),
    "convert": ("convert", "CANDIDATES", "--data", "DATA", "--format", "cvat"),
    "benchmark": ("benchmark", "--quick"),
}
"""The verbs that write to a folder, with what they need besides."""


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", WRITING)
def test_no_verb_writes_to_a_folder_of_the_user(postnms, trained_run, tmp_path, verb):
    Image.new("RGB", (40, 30)).save(tmp_path / "image.png")
    write_truth(tmp_path / "truth.json", 2)
    write_candidates(tmp_path / "c.safetensors", random_candidates(60, 2), "truth.json")
    given = {
        "RUN": trained_run,
        "IMAGE": tmp_path / "image.png",
        "CANDIDATES": tmp_path / "c.safetensors",
        "DATA": tmp_path / "truth.json",
    }
    mine = tmp_path / "mine"
    names = ("results_nms.json", "metrics.json", "pictures/a.png", "compare.csv", "errors.png")
    names += ("images/train_00000.png", "images.json", "clustering.png", "image.png", "recipe.json")
    names += ("compare.json", "analyse.json", "benchmark.json", "scenes.json", "predict.json")
    names += ("convert.json", "truth.json", "labels.json")
    for name in names:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text('{"rows": "mine"}')
    before = everything(mine)
    words = [given.get(word, word) for word in WRITING[verb]]
    status, _, shown = postnms(*words, "--out", mine)
    assert status == 2
    last = shown.splitlines()[-1]
    assert last.startswith(f"postnms: --out: {mine}: holds files, and is not a ")
    assert everything(mine) == before


def test_foreign_names_cannot_change_the_terminal(postnms, tmp_path):
    name = "no\x1b[31m\x07such\r.json"
    status, _, shown = postnms("eval", tmp_path / name)
    assert status == 2
    assert r"no\x1b[31m\x07such\r.json: not a run folder" in shown
