"""The page of an experiment says what its records say."""

import json
import re
import statistics
from urllib.parse import unquote

import pytest

from postnms.data.formats.coco import read_truth
from postnms.experiments.comparison import Comparison
from postnms.experiments.finished import read_all_finished
from postnms.experiments.page import MADE_BY
from postnms.experiments.writing import write_page
from tests.support.experiments import (
    HEURISTICS,
    PLAIN,
    finish,
    finished_plan,
    moved,
    planned,
    replay_by_hand,
    write_data,
)

DIFFERENCES = [
    ["stage.post_nms", "bare.nms"],
    ["stage.post_nms", "stage.best_heuristic"],
    ["stage.nms:iou=0.9", "stage.nms"],
]


def made(plan, path, command="postnms experiment mine.yaml"):
    """Write a page and return its text and its records."""
    write_page(path, Comparison(plan, read_all_finished(plan)), command)
    records = {
        file.stem: json.loads(file.read_text()) for file in path.with_suffix("").glob("*.json")
    }
    records.pop("summary")
    return path.read_text(), records


def rows(text, title):
    """Return the cells of the first table below a heading, without its two first lines."""
    below = text.partition(f"\n## {title}")[2]
    lines = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.fixture
def page(tmp_path):
    plan, _, _ = finished_plan(
        tmp_path, heuristics=HEURISTICS, differences=DIFFERENCES, columns=["AP", "AR100"]
    )
    return plan, *made(plan, tmp_path / "docs" / "cells.md")


def test_the_page_has_the_rows_of_the_candidates_of_an_arm_and_their_clusters(tmp_path):
    fused = {"ori": ["stage.fusion=[1, 0, 0]"]}
    arms = {"stage": {**PLAIN, "methods": ["wbf"], "evaluations": fused, "placement": True}}
    data, truth, results = write_data(tmp_path)
    plan = planned(tmp_path, data, arms=arms, differences=[["stage.wbf", "stage"]])
    for run in plan.runs:
        finish(plan, run, truth, results)
        replay_by_hand(plan, run, truth, moved(results, run.seed), judged=True)
    comparison = Comparison(plan, read_all_finished(plan))
    text, _ = made(plan, tmp_path / "page.md")
    names = [line[1] for line in rows(text, "All figures")]
    assert names == ["NMS", "post-NMS", "`wbf`", "`ori:nms`", "`ori:post_nms`"]
    aps = [run.figures("wbf")["AP"] for run in comparison.runs]
    assert rows(text, "All figures")[2][2] == cell(aps)
    summary = json.loads((tmp_path / "page/summary.json").read_text())
    (placement,) = summary["placement"]
    key, _, average, counts = rows(text, "Placement of the clusters of `stage`")
    assert key[0] == "KeyIoU"
    assert average[1] != average[2] != "-"
    mean = sum(placement["clusters"]) / 2
    assert counts[1] == counts[2]
    assert counts[1].startswith(f"{mean:.0f} ± ")
    histogram = placement["after"]["KeyIoU"]["histogram"]
    assert sum(histogram) == sum(placement["clusters"])
    assert "![KeyIoU, MaxIoU and AvgIoU](page/placement_stage.png)" in text
    assert (tmp_path / "page/placement_stage.png").is_file()


def over_seeds(records, arm, row, figure):
    values = []
    for seed in (0, 3):
        record = records[f"{arm}_{seed}"]
        figures = record["rows"].get(row) or record["suppressors"][row]["figures"]
        values.append(figures[figure])
    return values


def cell(values):
    low, high = min(values), max(values)
    deviation = statistics.stdev(values)
    return f"{sum(values) / 2:.1f} ± {deviation:.1f} ({low:.1f} to {high:.1f})"


def test_figures_are_means_of_the_records(page):
    _, text, records = page
    figures = ("AP", "AR100")
    expected = [
        [f"`{arm}`", title, *(cell(over_seeds(records, arm, row, figure)) for figure in figures)]
        for arm, row, title in (
            ("bare", "nms", "NMS"), ("stage", "nms", "NMS"), ("stage", "post_nms", "post-NMS"),
        )
    ]  # fmt: skip
    assert rows(text, "All figures") == expected
    assert "| arm | row | AP | AR100 |" in text


def test_differences_have_each_seed_the_mean_and_the_interval(page):
    plan, text, records = page
    first, second, third = rows(text, "Differences")
    post, bare, nms, loose = (
        over_seeds(records, arm, row, "AP")
        for arm, row in (("stage", "post_nms"), ("bare", "nms"), ("stage", "nms"),
                         ("stage", "nms:iou=0.9"))
    )  # fmt: skip
    gains = [after - before for after, before in zip(post, bare, strict=True)]
    assert first[:5] == [
        "`stage`, post-NMS", "`bare`, NMS", *(f"{gain:+.2f}" for gain in gains),
        f"**{sum(gains) / 2:+.2f}**",
    ]  # fmt: skip
    low, high = map(float, first[5].split(" to "))
    assert low < sum(gains) / 2 < high
    methods = {m: sum(over_seeds(records, "stage", m, "AP")) for m in HEURISTICS["methods"]}
    best = max(methods, key=methods.get)
    assert second[1] == f"`stage`, `{best}`, the best suppressor"
    in_short = text.split("\n\n")[1]
    assert in_short == (
        f"AP of `stage` (post-NMS) minus that of `bare` (NMS) {sum(gains) / 2:+.2f} ({first[5]}) "
        f"and `stage` (`{best}`, the best suppressor) {second[-2][2:-2]} ({second[-1]})."
    )
    assert (
        f"The best suppressor, `{best}` on `stage`, has the best mean AP over the seeds of the 2 "
        in text
    )
    assert third[:2] == ["`stage`, `nms:iou=0.9`", "`stage`, NMS"]
    assert third[2] == f"{loose[0] - nms[0]:+.2f}"
    assert "a bootstrap with 30 resamples" in text
    assert "no seeds but the 2 that were run" in text
    assert plan.experiment.config.bootstrap == 30


def test_a_gain_of_two_rows_comes_first_for_every_arm(tmp_path):
    data, truth, results = write_data(tmp_path)
    arms = {"few": {"set": ["training.iterations=3"]}, "many": {}}
    asked = [["few.post_nms", "few.nms"], ["few.nms", "many.nms"], ["many.post_nms", "many.nms"]]
    plan = planned(tmp_path, data, arms=arms, differences=asked)
    for run in plan.runs:
        finish(plan, run, truth, results)
    text, _ = made(plan, tmp_path / "p.md")
    few, _, many = ((line[-2].strip("*"), line[-1]) for line in rows(text, "Differences"))
    assert text.split("\n\n")[1] == (
        f"AP of post-NMS minus that of NMS of the same arm: `few` {few[0]} ({few[1]}) and "
        f"`many` {many[0]} ({many[1]})."
    )


def test_results_have_the_row_that_counts_of_each_arm_and_the_best_suppressor(page):
    _, text, records = page
    methods = {m: sum(over_seeds(records, "stage", m, "AP")) for m in HEURISTICS["methods"]}
    best = max(methods, key=methods.get)
    lines = rows(text, "Results")
    assert [line[:2] for line in lines] == [
        ["`bare`", "NMS"],
        ["`stage`", "post-NMS"],
        ["`stage`", f"`{best}`, the best suppressor"],
    ]
    for line, (arm, row) in zip(
        lines, (("bare", "nms"), ("stage", "post_nms"), ("stage", best)), strict=True
    ):
        aps = over_seeds(records, arm, row, "AP")
        assert line[2:5] == [*(f"{ap:.1f}" for ap in aps), f"**{sum(aps) / 2:.1f}**"]
        low, high = map(float, line[5].split(" to "))
        assert low < sum(aps) / 2 < high
    assert "chosen on the val images on which it is compared" in text
    assert "the same ones for both sides of a difference and for all seeds. The seeds" in text
    assert "Post-NMS: the same boxes" in text
    assert "Post-NMS with the name of a suppressor" not in text


def test_the_summary_says_what_the_page_says(page, tmp_path):
    _, text, _ = page
    summary = json.loads((tmp_path / "docs" / "cells" / "summary.json").read_text())
    assert [part["AP"]["mean"] for part in summary["differences"]] == pytest.approx(
        [float(line[4].strip("*")) for line in rows(text, "Differences")], abs=0.005
    )
    assert [part["AP"]["low"] for part in summary["results"]] == pytest.approx(
        [float(line[5].split(" to ")[0]) for line in rows(text, "Results")], abs=0.05
    )
    assert summary["best_heuristic"]["stage"] == summary["results"][2]["row"]
    assert (summary["seeds"], summary["missing"]) == ([0, 3], [])


def test_runs_that_are_not_finished_are_named(tmp_path):
    plan, _, _ = finished_plan(tmp_path, heuristics=HEURISTICS, differences=DIFFERENCES)
    for run in (plan.of_arm("bare")[1], *plan.of_arm("stage")):
        run.folder.weights.unlink()
    text, records = made(plan, tmp_path / "p.md")
    assert "**Not finished: `stage_0`, `bare_3` and `stage_3`.**" in text
    assert list(records) == ["bare_0"]
    assert "There is one seed, so the interval covers the images alone" in text
    ap = f"{records['bare_0']['rows']['nms']['AP']:.1f}"
    assert rows(text, "Results")[0][2:5] == [ap, "-", f"**{ap}**"]
    assert rows(text, "Results")[1:] == [
        ["`stage`", "post-NMS", *"----"], ["`stage`", "the best suppressor", *"----"]
    ]  # fmt: skip
    assert [line[2:] for line in rows(text, "Differences")] == [[*"----"]] * 3
    assert rows(text, "All figures")[0][0] == "`bare` (1 of 2 seeds)"
    assert rows(text, "All figures")[1][1:] == ["NMS", *"---"]
    assert rows(text, "Arms")[1][2] == "-"


def test_intervals_say_how_many_seeds_they_know_where_arms_differ(tmp_path):
    plan, _, _ = finished_plan(tmp_path, heuristics=HEURISTICS, differences=DIFFERENCES)
    plan.of_arm("stage")[1].folder.weights.unlink()
    text, _ = made(plan, tmp_path / "p.md")
    assert [line[3] == "-" for line in rows(text, "Results")] == [False, True, True]
    assert "It knows no seeds but the 1 to 2 of its row." in text


def test_suppressors_are_sorted_and_beside_the_rows_of_the_run(page):
    _, text, records = page
    table = rows(text, "Suppressors on the candidates of `stage`")
    assert [line[0] for line in table[:2]] == ["the run, NMS", "the run, post-NMS"]
    means = {m: sum(over_seeds(records, "stage", m, "AP")) for m in HEURISTICS["methods"]}
    order = sorted(means, key=means.get, reverse=True)
    assert [line[0] for line in table[2:]] == [f"`{method}`" for method in order]
    assert table[2][1] == cell(over_seeds(records, "stage", order[0], "AP"))
    assert table[2][-1] == "1.50"


def test_the_head_says_what_was_trained_on_what(page):
    plan, text, records = page
    truth = json.loads((plan.data / "instances_val.json").read_text())
    objects = sum(not entry["iscrowd"] for entry in truth["annotations"])
    head, _, _ = text.partition("## Arms")
    assert head.startswith(f"{MADE_BY}\n# A stage\n\nAP of `stage` (post-NMS) minus ")
    assert ".\n\nWhy it is *tried*.\n\n" in head
    assert (
        "Recipe `demo` with `training.iterations=20`, trained on `cells` once for each arm and "
        "each of the seeds 0 and 3. All figures are COCO's, in per cent, on the val split: "
        f"12 images with {objects} objects of 3 classes.\n"
    ) in head
    assert "**" not in head
    assert rows(text, "Arms") == [
        ["`bare`", "`stage=null`", "1.0"],
        ["`stage`", "`stage.suppressor=null`", "1.0"],
    ]
    c1 = [records[f"bare_{seed}"]["classes"]["nms"][0]["AP"] for seed in (0, 3)]
    assert rows(text, "Classes")[0][:2] == ["c1", f"{sum(c1) / 2:.1f}"]
    assert rows(text, "Classes")[2] == ["c9", "-", "-", "-"]


def test_records_are_linked_with_command_and_commit(page, tmp_path):
    _, text, records = page
    assert rows(text, "Records") == [
        [f"[{name}](cells/{name}.json)", "`postnms x`", "`0123456789ab`", "1.0"]
        for name in ("bare_0", "stage_0", "bare_3", "stage_3")
    ]
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (tmp_path / "docs" / link).is_file()
    some = records["bare_0"]
    assert f"{some['machine']}; postnms {some['version']}, torch {some['torch']}." in text
    assert "This page was made by `postnms experiment mine.yaml`." in text


def test_runs_of_several_commits_are_pointed_out(tmp_path):
    plan, truth, results = finished_plan(tmp_path, seeds=[0])
    finish(plan, plan.runs[1], truth, results, commit="999999999999-dirty")
    text, _ = made(plan, tmp_path / "p.md")
    assert (
        "**The runs come from different commits of the library, `0123456789ab` and "
        "`999999999999-dirty`.**"
    ) in text
    assert "**Not every run comes from a commit:**" in text


def test_with_one_seed_the_page_says_what_the_interval_lacks(tmp_path):
    plan, _, _ = finished_plan(tmp_path, seeds=[3])
    text, records = made(plan, tmp_path / "p.md")
    assert "with the seed 3." in text
    assert "There is one seed, so the interval covers the images alone" in text
    assert "| AP of | minus AP of | seed 3 | 95 % interval |" in text
    assert "standard deviation" not in text
    assert rows(text, "All figures")[0][2] == f"{records['bare_3']['rows']['nms']['AP']:.1f}"
    assert "Suppressors on" not in text


def test_the_page_says_what_the_row_of_a_suppressor_is(tmp_path):
    arms = {"stage": {"set": ["stage.suppressor=wbf"]}}
    plan, _, _ = finished_plan(tmp_path, seeds=[0], differences=[], arms=arms)
    text, records = made(plan, tmp_path / "p.md")
    ap = records["stage_0"]["rows"]["post_nms+wbf"]["AP"]
    line = rows(text, "Results")[0]
    assert line[:3] == ["`stage`", "post-NMS, wbf", f"**{ap:.1f}**"]
    assert "Post-NMS with the name of a suppressor: what it makes of the candidates" in text


def test_an_experiment_without_differences_has_no_intervals(tmp_path):
    plan, _, _ = finished_plan(tmp_path, seeds=[0], differences=[], arms={"stage": PLAIN}, text="")
    text, _ = made(plan, tmp_path / "p.md")
    assert "## Differences" not in text
    assert f"{MADE_BY}\n# A stage\n\nRecipe" in text


def test_a_page_names_no_folder_of_the_machine(tmp_path):
    plan, _, _ = finished_plan(tmp_path, seeds=[0])
    text, _ = made(plan, tmp_path / "p.md", f"postnms experiment {tmp_path}/mine.yaml")
    assert str(tmp_path) not in text
    assert "made by `postnms experiment mine.yaml`" in text


def test_each_seed_of_the_scenes_has_images_of_its_own(tmp_path):
    from postnms.data.splits import open_dataset

    few = ["data.scenes.train=1", "data.scenes.val=2", "data.scenes.size=64"]
    plan = planned(tmp_path, set=few)
    for run in plan.runs:
        finish(plan, run, open_dataset(run.recipe.data, None, "val", run.seed).truth, [])
    text, _ = made(plan, tmp_path / "p.md")
    assert "trained on the built-in scenes once for each arm" in text
    assert "Each seed has images of its own." in text
    assert (
        "the val images of each seed are drawn with replacement, the same ones for both sides of a "
        "difference. The seeds"
    ) in text


def test_rows_of_a_stage_are_explained_only_where_there_are_some(tmp_path):
    data, truth, results = write_data(tmp_path)
    arms = {"heads": {"set": ["stage=null", "heads.iou={}"]}}
    plan = planned(tmp_path, data, arms=arms, differences=[])
    for run in plan.runs:
        finish(plan, run, truth, results)
    text, _ = made(plan, tmp_path / "p.md")
    assert [line[1] for line in rows(text, "All figures")] == ["NMS", "`iou_guided_nms`", "IoU-Net"]
    assert "Post-NMS" not in text


def test_figures_of_images_without_objects_are_dashes(tmp_path):
    data, _, results = write_data(tmp_path)
    for file in data.glob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    truth = read_truth(data / "instances_val.json")
    plan = planned(tmp_path, data)
    for run in plan.runs:
        finish(plan, run, truth, results)
    text, _ = made(plan, tmp_path / "p.md")
    assert "AP of `stage` (post-NMS) minus that of `bare` (NMS) - (-)" in text
    assert rows(text, "Differences")[0][2:] == ["-", "-", "**-**", "-"]
    summary = json.loads((tmp_path / "p/summary.json").read_text())
    nothing = {"per_seed": [None, None], "mean": None, "low": None, "high": None}
    assert [part["AP"] for part in summary["differences"]] == [nothing, nothing]


def test_links_of_a_page_with_an_odd_name_lead_to_its_records(tmp_path):
    arms = {"stage": {**PLAIN, "placement": True}}
    data, truth, results = write_data(tmp_path)
    plan = planned(tmp_path, data, arms=arms, differences=[])
    for run in plan.runs:
        finish(plan, run, truth, results)
        replay_by_hand(plan, run, truth, results, judged=True)
    text, _ = made(plan, tmp_path / "Größe (1) a.md")
    links = re.findall(r"\]\(([^()\s]+)\)", text)
    assert [unquote(link) for link in links] == [
        "Größe (1) a/placement_stage.png", "Größe (1) a/stage_0.json", "Größe (1) a/stage_3.json"
    ]  # fmt: skip
    assert all((tmp_path / unquote(link)).is_file() for link in links)
