"""Recipe files: what they may hold, what is wrong with them and where, and how they are written."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.config import Config
from postnms.errors import UserError
from postnms.recipes import (
    RECIPES,
    Recipe,
    get_recipe,
    open_recipe,
    override,
    read_recipe_file,
    write_recipe,
)
from postnms.recipes.explained import explain, explanation
from postnms.recipes.files import is_recipe_file
from tests.recipes.test_every_field import VALUES


def written(folder, text, name="mine.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def named(recipe, name):
    return recipe.model_copy(update={"name": name})


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("ending", [".yaml", ".yml", ".json"])
def test_every_named_recipe_is_read_as_it_was_written(tmp_path, name, ending):
    path = tmp_path / f"mine{ending}"
    write_recipe(get_recipe(name), path)
    assert read_recipe_file(path) == named(get_recipe(name), "mine")


CHANGES = {
    "data.train_images": st.text(max_size=12),
    "detector.backbone.weights": st.sampled_from(["no", "1e-3", "~", "a: b # c", "null", "[", "-"]),
    "training.lr": st.floats(1e-300, 1e300),
    "training.weight_decay": st.floats(0, 1e-3),
    "training.steps": st.lists(st.integers(1, 2**63 - 1) | st.just("2.5 epochs"), max_size=3),
    "data.scenes": st.none() | st.just({"train": 3}),
    "stage.second_nms": st.none() | st.floats(0, 1),
    "stage.beta": st.just("ratio") | st.floats(0, 9),
    "data.cache": st.booleans(),
}


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional=CHANGES))
def test_any_recipe_is_read_as_it_was_written(tmp_path_factory, changes):
    try:
        recipe = get_recipe("demo", changes)
    except UserError:  # JSON has no lone surrogates.
        assert any(0xD800 <= ord(c) < 0xE000 for c in changes["data.train_images"])
        return
    folder = tmp_path_factory.mktemp("recipes")
    write_recipe(recipe, folder / "mine.yaml")
    assert read_recipe_file(folder / "mine.yaml") == named(recipe, "mine")
    # Other readers of YAML read the same values.
    plain = yaml.safe_load((folder / "mine.yaml").read_text())
    if (recipe.data.train_images or "").isprintable():
        assert named(Recipe.parse(plain, "plain"), recipe.name) == recipe


def test_a_recipe_whose_every_field_is_changed_is_read_as_it_was_written(tmp_path):
    recipe = Recipe.parse(VALUES[Recipe], "recipe")
    write_recipe(recipe, tmp_path / "mine.yaml")
    assert read_recipe_file(tmp_path / "mine.yaml") == recipe


@pytest.mark.parametrize("config", VALUES, ids=lambda config: config.__name__)
def test_every_field_is_explained(config):
    for field, about in config.model_fields.items():
        is_section = isinstance(about.default, Config) or field in ("training", "detector")
        assert is_section or len(explanation(config, field)) > 10, field


def test_comments_stand_above_their_fields_and_fit():
    text = explain(get_recipe("demo"))
    lines = text.splitlines()
    at = lines.index("  lr: 0.02")
    assert lines[at - 1] == "  # Learning rate of the detector after warm-up."
    at = lines.index("  optimizer: sgd")
    assert lines[at - 1] == "  # sgd with momentum, or adamw. Values: sgd, adamw."
    assert max(map(len, lines)) <= 100
    assert "``" not in text
    assert ":func:" not in text


def test_a_file_may_hold_only_what_differs_from_a_named_recipe(tmp_path):
    text = """
        base: faster_rcnn_r18_small
        detector: {min_size: 224}
        stage:
          weighting: cls
        training:
          lr: 1e-3
          steps: [5]
    """
    recipe = read_recipe_file(written(tmp_path, text))
    changes = {
        "name": "mine",
        "detector.min_size": 224,
        "stage.weighting": "cls",
        "training.lr": 0.001,
        "training.steps": [5],
    }
    assert recipe == get_recipe("faster_rcnn_r18_small", changes)


def test_another_kind_of_detector_and_no_stage_replace_those_of_the_base(tmp_path):
    text = "base: demo\ndetector:\n  kind: retinanet\n  min_size: 96\nstage: null\n"
    recipe = read_recipe_file(written(tmp_path, text))
    plain = Recipe.parse(
        {"training": {"iterations": 1}, "detector": {"kind": "retinanet", "min_size": 96}}, "x"
    )
    assert recipe.detector == plain.detector
    assert recipe.stage is None
    scenes = "base: faster_rcnn_r18_small\ndata: {scenes: {train: 3}}\n"
    assert read_recipe_file(written(tmp_path, scenes)).data.scenes.train == 3


def test_json_may_be_indented_with_tabs_and_have_any_character(tmp_path):
    images = "\u00e9 \U0001f600/x"
    content = {"base": "demo", "name": "own", "data": {"train_images": images}}
    for ascii_only in (True, False):
        text = json.dumps(content, indent="\t", ensure_ascii=ascii_only)
        recipe = read_recipe_file(written(tmp_path, text, "a.JSON"))
        assert (recipe.name, recipe.data.train_images) == ("own", images)
    path = tmp_path / "b.yml"
    path.write_bytes(b"\xef\xbb\xbfbase: demo\r\nseed: 3\r\n")
    assert read_recipe_file(path).seed == 3


MISTAKES = {
    "base: demo\nstage:\n  width: 8\n  weightng: cls\n": (
        4,
        r"stage\.weightng: no such field \(did you mean 'weighting'\?\)",
    ),
    '{"base": "demo",\n "training": {\n  "lr": "fast"}}': (3, r"training\.lr: .*got 'fast'"),
    "base: demo\ntraining:\n  steps:\n  - 1\n  - x\n": (5, r"training\.steps\.1: .*got 'x'"),
    "base: demo\n\nstag: {}\n": (3, r"stag: no such field \(did you mean 'stage'\?\)"),
    "base: dmo\n": (1, r"base: expected the name of a recipe, got 'dmo' .*'demo'"),
    "seed: 1\nbase: [demo]\n": (2, r"base: expected the name of a recipe, got \['demo'\]"),
    "base: demo\ndetector:\n  kind: frcnn\n": (3, r"detector\.kind: expected one of"),
    "base: demo\nstage.width: 3\n": (2, r"stage\.width: no such field"),
    "base: demo\nseed: 1\nseed: 2\n": (3, "seed: is there twice"),
    "base: demo\nseed: &one 1\nname: *one\n": (2, r"an alias \(\*name\) is not read"),
    "base: demo\nseed: !!python/name:os.system x\n": (2, r"a tag \(.*\) is not read"),
    "base: demo\n\tseed: 1\n": (2, r"malformed YAML \(found character '\\t'"),
    "base: demo\n---\nbase: demo\n": (2, "malformed YAML .*another document"),
    "base: demo\ntraining: [1\nseed: 1": (3, "malformed YAML"),
    "base: demo\n3: 1\n": (2, "expected a name of a field, got the value 3"),
    f"base: demo\nseed: {2**64}\n": (2, "seed: expected an integer of at most 64 bits"),
    f"base: demo\nseed: {'9' * 5000}\n": (2, "an integer is too long"),
    'base: demo\nname: "\\ud800"\n': (2, "half a character"),
    "seed: 1\n\nstage: null\n": (1, "training: field required"),
    "base: demo\ntraining:\n  iterations: 0\n": (
        3,
        r"training\.iterations: expected a number of iterations from 1 on",
    ),
    "base: demo\ntraining:\n  freeze: detector\n": (1, r"training\.freeze: 'detector' needs"),
}


@pytest.mark.parametrize("text", MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_one_line_with_its_place(tmp_path, text):
    line, message = MISTAKES[text]
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=message) as mistake:
        read_recipe_file(path)
    shown = str(mistake.value)
    assert shown.startswith(f"{path}, line {line}: ")
    assert shown.isprintable()
    assert len(shown) < 1000


WHOLE_FILES = {
    b"": "expected fields as in 'seed: 1', got an empty file",
    b"[1]": "expected fields as in 'seed: 1', got a list",
    b"seed": "expected fields as in 'seed: 1', got the value seed",
    b"a: \xff": "expected UTF-8, got another byte at 3",
    b"a: " + b"[" * 10**5: "nests too deeply",
    b"a: \x01": "malformed YAML",
    b" " * (2**20 + 1): "expected at most 1048576 bytes of settings, got 1048577",
}


@pytest.mark.parametrize("content", WHOLE_FILES, ids=range(len(WHOLE_FILES)))
def test_a_file_that_is_no_recipe_is_one_line(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as mistake:
        read_recipe_file(path)
    assert str(mistake.value).startswith(f"{path}: {WHOLE_FILES[content]}")


def test_what_is_a_name_and_what_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("base: demo\nseed: 9\n")
    Path("plain").write_text("base: demo\nseed: 9\n")
    assert not is_recipe_file("demo")
    assert open_recipe("demo").seed == 0
    assert open_recipe("./demo", {"seed": 8}) == named(get_recipe("demo", {"seed": 8}), "demo")
    assert open_recipe("plain").seed == 9
    for name, message in (
        ("dmo", r"recipe 'dmo': no such recipe \(did you mean 'demo'\?\)"),
        ("x.yaml", r"^x\.yaml: no such recipe file$"),
        ("runs/x", "^runs/x: no such recipe file$"),
        (str(tmp_path), "expected a recipe file, got a folder; --resume continues a run"),
    ):
        with pytest.raises(UserError, match=message):
            open_recipe(name)
    assert override(open_recipe("plain"), {"seed": 0, "name": "demo"}) == get_recipe("demo")
