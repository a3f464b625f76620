"""The folder of an experiment, which holds the folders of its runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from postnms.experiments.plan import Plan
from postnms.files.atomic import write_json
from postnms.files.folders import Marker, own_folder
from postnms.files.locks import LOCK, hold_folder

MARKER = Marker("experiment.json", ("experiment", "arms"))
"""The file that marks the folder of an experiment."""


@contextmanager
def hold_experiment(plan: Plan, command: str | None = None) -> Iterator[None]:
    """Hold the folder of an experiment during the ``with`` block.

    ``command`` says what this process does, for the message that another process shows.

    Raises:
        UserError: another process holds the folder, or it holds files that are none of the
            experiment. The commands of ``--commands`` make a folder without the marker, so one
            that has nothing but what they write is taken over.
    """
    folder = plan.folder
    made = {LOCK}
    for run in plan.runs:
        made |= {path.name for path in (run.folder.root, run.candidates, run.compared)}
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    is_ours = there - {LOCK} and there <= made
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
