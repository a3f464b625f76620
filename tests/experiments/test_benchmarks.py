"""The experiments of the repository and of its documents can be planned."""

from pathlib import Path

import pytest

from postnms.experiments.config import ArmConfig, ExperimentConfig, read_experiment
from postnms.experiments.paper.experiments import reproduction
from postnms.experiments.plan import make_plan
from postnms.recipes import override

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "experiments"
FILES = sorted(FOLDER.glob("*.yaml"))


IMAGES = "bloodcells_images"
"""The experiment with parts of the training images, which has no control."""
SOFTER = "softer_bloodcells"
"""The experiment with two detectors, each with a stage of its own."""
IDLE = ("member_labels", "representative_rows")
"""Fields of the stage that change nothing where its ``clusters`` are off
(``tests/stage/test_training_rows.py``)."""


def plan_of(file):
    return make_plan(read_experiment(file), Path("runs") / file.stem)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_experiment_has_a_plan_and_names_its_command(file):
    assert plan_of(file).runs
    assert file.read_text().startswith(f"# postnms experiment benchmarks/experiments/{file.name} ")


@pytest.mark.parametrize(
    "file", [f for f in FILES if f.stem not in (IMAGES, SOFTER)], ids=lambda file: file.stem
)
def test_a_control_differs_in_the_clusters_alone(file):
    plan = plan_of(file)
    first = {arm: plan.of_arm(arm)[0].recipe for arm in plan.counted}
    assert first.keys() - {"paper", "cluster_labels"} == {"bare", "control", "stage"}
    idle = {f"stage.{name}": getattr(first["stage"].stage, name) for name in IDLE}
    clusters = ["stage.clusters: False here, True there"]
    assert override(first["control"], idle).differences(first["stage"]) == clusters
    assert first["bare"].stage is None
    assert plan.counted["stage"].row == "post_nms+soft_nms_linear"


def test_two_detectors_get_the_same_stage_and_are_those_of_table_2():
    plan = plan_of(FOLDER / f"{SOFTER}.yaml")
    first = {arm: plan.of_arm(arm)[0].recipe for arm in plan.counted}
    edges = {"detector.box_coding": "edges", "detector.box_loss": "kl"}
    assert (
        override(first["best"], edges).model_copy(
            update={"training": first["softer_stage"].training}
        )
        == first["softer_stage"]
    )
    assert override(first["bare"], edges) == first["softer"]
    differences = first["softer_control"].differences(first["softer_stage"])
    assert differences == ["stage.clusters: False here, True there"]
    table = reproduction("table2", "small", frozen=True).experiment
    of_table = make_plan(table, Path("runs") / SOFTER)
    for arm in ("bare", "softer", "best"):
        assert first[arm] == of_table.of_arm(arm)[0].recipe


def test_parts_of_the_images_differ_in_their_number_and_the_length_of_the_training():
    plan = plan_of(FOLDER / f"{IMAGES}.yaml")
    # What all training images give is an arm of the other plan.
    whole = plan_of(FOLDER / "bloodcells.yaml").of_arm("stage")[0].recipe
    for arm in plan.counted:
        differences = plan.of_arm(arm)[0].recipe.differences(whole)
        fields = {text.partition(":")[0] for text in differences}
        assert fields == {"data.tuning_fraction", "training.iterations", "training.steps"}
        share = plan.of_arm(arm)[0].recipe.data.tuning_fraction
        assert arm == f"images_{444 - round(444 * share)}"


def test_there_are_experiments():
    assert len(FILES) >= 5


def test_the_example_of_the_document_is_an_experiment_of_nine_runs(tmp_path):
    page = (ROOT / "docs" / "experiments.md").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    plan = make_plan(read_experiment(file), Path("runs/mine"))
    assert len(plan.runs) == 9
    assert plan.runs[0].folder.root == Path("runs/mine/bare_0")
    fields = {name for name in ExperimentConfig.model_fields if f"`{name}`" in page}
    assert fields == set(ExperimentConfig.model_fields)
    assert all(f"`{name}" in page for name in ArmConfig.model_fields)
