"""The folder of an experiment, which holds the folders of its runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from postnms.experiments.plan import Plan
from postnms.files.atomic import write_json
from postnms.files.folders import Marker, own_folder
from postnms.files.locks import hold_folder

MARKER = Marker("experiment.json", ("experiment", "arms"))
"""The file that marks the folder of an experiment."""


@contextmanager
def hold_experiment(plan: Plan, command: str | None = None) -> Iterator[None]:
    """Hold the folder of an experiment during the ``with`` block.

    ``command`` says what this process does, for the message that another process shows.

    Raises:
        UserError: another process holds the folder, or it holds files and neither the marker nor a
            run of the plan. The commands of ``--commands`` make a folder without the marker.
    """
    folder = plan.folder
    is_ours = any(run.folder.recipe.is_file() for run in plan.runs)
    holder = (
        hold_folder(folder, command)
        if is_ours
        else own_folder(folder, "the folder of an experiment", MARKER, command=command)
    )
    with holder:
        experiment = plan.experiment
        arms = list(experiment.config.arms)
        write_json(folder / MARKER.name, {"experiment": experiment.path.name, "arms": arms})
        yield
