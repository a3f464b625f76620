"""Where a limit cuts detections, the verbs say in how many images."""

import json

import pytest
import torch
from PIL import Image

from postnms.analysis.comparison import compare
from postnms.analysis.study import open_study
from postnms.cli.limits import limit_setting, say_compared, say_uncounted
from postnms.evaluation.matching import images_over_limit
from postnms.orders import cut_images
from postnms.recipes import get_recipe, override
from postnms.structures import Candidates
from postnms.suppression import choose, get_suppressor
from tests.support.builders import random_candidates
from tests.support.studies import write_candidates, write_truth


def test_images_are_cut_that_have_more_than_the_limit():
    image = torch.tensor([0, 2, 2, 2, 3, 3])
    assert cut_images(image, 5, 2).tolist() == [False, False, True, False, False]


def apart(counts):
    """Return candidates that do not overlap, so many in each image."""
    image = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    left = 20.0 * torch.arange(len(image))
    boxes = torch.stack([left, left * 0, left + 10, left * 0 + 10], dim=1)
    zeros = torch.zeros(len(image), dtype=torch.int64)
    scores = torch.linspace(0.9, 0.1, len(image))
    return Candidates(boxes, scores, zeros, image, torch.arange(len(image)), len(counts))


@pytest.mark.parametrize("name", ["nms", "soft_nms_linear", "wbf", "none"])
def test_a_suppressor_counts_exactly_the_images_that_it_cuts(name):
    suppressor = get_suppressor(f"{name}:max_detections=3")
    found, cut = suppressor.limited(apart([3, 4, 0, 9]))
    assert torch.bincount(found.image, minlength=4).tolist() == [3, 3, 0, 3]
    assert cut.tolist() == [False, True, False, True]
    assert torch.equal(suppressor(apart([3, 4, 0, 9])).source, found.source)


def test_eval_and_predict_say_how_many_images_are_cut(postnms, run_folder, tmp_path):
    """The right number is that of images with more results where the limit is out of reach."""
    words = ("eval", run_folder, "--set", "detector.box_detections_per_img=10000")
    status, shown, _ = postnms(*words)
    assert (status, "the rest is cut" in shown) == (0, False)
    results = json.loads((run_folder / "results_nms.json").read_text())
    of_image = [sum(r["image_id"] == i for r in results) for i in {r["image_id"] for r in results}]
    limit = sorted(of_image)[0]
    over = sum(count > limit for count in of_image)
    assert 0 < over < 3
    change = f"detector.box_detections_per_img={limit}"
    status, shown, _ = postnms("eval", run_folder, "--set", change)
    assert status == 0
    assert f"note: {over} of 3 images have more than {limit} detections: the rest is cut" in shown
    assert "--set detector.box_detections_per_img=N keeps more" in shown

    recipe = json.loads((run_folder / "recipe.json").read_text())
    recipe["detector"]["box_detections_per_img"] = 1
    (run_folder / "recipe.json").write_text(json.dumps(recipe))
    for i in range(2):
        Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / f"{i}.png")
    words = ("predict", run_folder, tmp_path, "--out", tmp_path / "out")
    shown = [postnms(*words)[1] for _ in range(2)]  # The second job finds all images done.
    listed = json.loads((tmp_path / "out" / "images.json").read_text())
    cut = sum(image.get("cut", False) for image in listed)
    assert cut > 0
    for text in shown:
        assert f"note: {cut} of 2 images have more than 1 detections: the rest is cut" in text
        assert "the run's detector.box_detections_per_img is the limit" in text
    words = ("predict", run_folder, tmp_path / "0.png", "--tile", 40, "--out", tmp_path / "tiled")
    shown = postnms(*words)[1]
    where = "detections in a tile, or as a whole: the rest is cut"
    assert f"note: 1 of 1 images have more than 1 {where}" in shown


@pytest.mark.parametrize(
    ("recipe", "changes", "field"),
    [
        ("demo", {}, "detector.box_detections_per_img"),
        ("retinanet_r18_small", {}, "detector.detections_per_img"),
        (
            "demo",
            {"detector": {"kind": "torchvision", "model": "ssd300_vgg16"}},
            "detector.options.detections_per_img",
        ),
        (
            "demo",
            {"detector": {"kind": "torchvision"}},
            "detector.options.box_detections_per_img",
        ),
    ],
)
def test_the_field_that_a_note_names_is_one_that_can_be_set(recipe, changes, field):
    chosen = get_recipe(recipe, changes)
    assert limit_setting(chosen) == field
    assert override(chosen, {field: 7}) != chosen


def test_results_that_the_figures_leave_out_are_counted(capsys):
    def entries(image, category, count):
        return [{"image_id": image, "category_id": category}] * count

    results = entries(1, 1, 101) + entries(1, 2, 150) + entries(2, 1, 60) + entries(2, 2, 60)
    assert images_over_limit(results) == 1
    assert images_over_limit(results[:100]) == 0
    say_uncounted({"nms": results[:5], "post_nms": results}, 9)
    say_uncounted({"nms": results[:5]}, 9)
    assert capsys.readouterr().out == (
        "note: 1 of 9 images have more than 100 detections of one class: "
        "the figures count the best 100 of them, as COCO does\n"
    )


def test_compare_says_which_rows_are_cut(tmp_path, capsys):
    write_truth(tmp_path / "truth.json", 2)
    write_candidates(tmp_path / "c.safetensors", random_candidates(60, 2), "truth.json")
    study = open_study(tmp_path / "c.safetensors", tmp_path / "truth.json")
    choices = [choose(f"none:max_detections={most}") for most in (2, 100)]
    rows = compare(study, choices, bootstrap=0)
    assert {row.name: row.cut for row in rows if row.cut} == {"none:max_detections=2": 2}
    say_compared(rows, 2)
    assert capsys.readouterr().out == (
        "note: of 2 images, max_detections cuts none:max_detections=2 in 2, as is usual on COCO; "
        "--suppressor NAME:max_detections=N keeps more\n"
    )
