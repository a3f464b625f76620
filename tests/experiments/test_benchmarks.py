"""The experiments of the repository can be planned, and ask for what their pages are to say."""

from pathlib import Path

import pytest

from postnms.experiments.config import read_experiment
from postnms.experiments.plan import make_plan

FOLDER = Path(__file__).parents[2] / "benchmarks" / "experiments"
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
