"""The programs that show the curves of a run: TensorBoard, Weights & Biases, MLflow."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker

from postnms.errors import UserError
from postnms.runs.folder import RunFolder

PROJECT = "postnms"
"""Name of the project or experiment that runs are listed under."""


def start_trackers(names: Sequence[str], folder: RunFolder, start: int = 0) -> list[GeneralTracker]:
    """Start trackers by name, through accelerate.

    TensorBoard writes into the run folder. The others write where their own settings say, and list
    the run by the name of its folder.

    Args:
        names: any of ``tensorboard``, ``wandb`` and ``mlflow``.
        folder: the folder of the run.
        start: number of iterations that are finished. TensorBoard forgets later ones.

    Raises:
        UserError: the package of a tracker is not installed.
    """
    check_trackers(names)
    name = folder.root.resolve().name
    build: dict[str, Callable[[], GeneralTracker]] = {
        "tensorboard": lambda: TensorBoardTracker("tensorboard", folder.root, purge_step=start + 1),
        "wandb": lambda: WandBTracker(PROJECT, name=name, dir=str(folder.root)),
        "mlflow": lambda: MLflowTracker(PROJECT, run_name=name),
    }
    trackers = [build[name]() for name in names]
    for tracker in trackers:
        tracker.start()
    return trackers


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError if the package of a tracker is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise UserError(
                f"training.trackers: {name!r} needs the package {name}; "
                "install postnms[trackers], or take the name out"
            )
