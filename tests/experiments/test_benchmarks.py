"""The experiments of the repository and of its documents can be planned."""

from pathlib import Path

import pytest

from postnms.experiments.config import ArmConfig, ExperimentConfig, read_experiment
from postnms.experiments.plan import make_plan

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "experiments"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_experiment_has_a_plan_whose_control_differs_in_the_clusters_alone(file):
    plan = make_plan(read_experiment(file), Path("runs") / file.stem)
    assert [run.name for run in plan.runs[:4]] == ["bare_0", "paper_0", "control_0", "stage_0"]
    bare, _, control, stage = (plan.of_arm(arm)[2].recipe for arm in plan.counted)
    assert control.differences(stage) == ["stage.clusters: False here, True there"]
    assert bare.stage is None
    assert plan.counted["stage"].row == "post_nms+soft_nms_linear"
    assert file.read_text().startswith(f"# postnms experiment benchmarks/experiments/{file.name} ")


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
