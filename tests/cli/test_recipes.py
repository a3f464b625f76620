"""``postnms recipes`` lists the recipes, shows one, and writes it to a file."""

import json

from postnms.cli.completion import recipe_names, suppressor_names
from postnms.recipes import RECIPES, read_recipe_file
from postnms.suppression import SUPPRESSORS


def test_recipes_are_listed_and_shown_as_json(postnms):
    assert "faster_rcnn_r50_fpn_1x" in postnms("recipes", "list")[1]
    status, shown, about = postnms(
        "recipes", "show", "faster_rcnn_r50_fpn_1x", "--set", "stage.weighting=cls"
    )
    assert status == 0
    assert json.loads(shown)["stage"]["weighting"] == "cls"
    assert "accelerate launch" in about


def test_a_recipe_is_written_to_a_file_and_never_over_another(postnms, tmp_path):
    file = tmp_path / "mine.yaml"
    words = ("recipes", "show", "demo", "--set", "seed=7", "--out", file)
    status, shown, _ = postnms(*words)
    assert (status, f"'postnms train {file}'" in shown) == (0, True)
    assert read_recipe_file(file).seed == 7
    before = file.read_text()
    status, _, shown = postnms("recipes", "show", "demo", "--out", file)
    assert status == 2
    assert shown.splitlines()[-1] == (
        f"postnms: --out: {file}: is there already; name another file"
    )
    assert file.read_text() == before
    status, shown, _ = postnms("recipes", "show", file, "--set", "stage.width=9")
    recipe = json.loads(shown)
    assert (status, recipe["name"], recipe["seed"], recipe["stage"]["width"]) == (0, "mine", 7, 9)
    status, _, shown = postnms("recipes", "show", "demo", "--out", tmp_path / "mine.txt")
    assert "expected a name that ends in .yaml, .yml, .json" in shown


def test_the_shell_completes_every_name():
    assert recipe_names("") == list(RECIPES)
    assert recipe_names("retinanet_r18") == ["retinanet_r18_small"]
    assert suppressor_names("") == list(SUPPRESSORS)
    assert suppressor_names("nms,wb") == ["nms,wbf", "nms,wbc"]
