"""``python -m tests.kills --kills 100``: print a line for each job, and the sums."""

import argparse
import tempfile
from pathlib import Path

import torch

from postnms.runs.folder import RunFolder
from postnms.training import train_splits
from tests.kills.jobs import Kills, in_child, kill_prediction, kill_training
from tests.support.runs import splits_of, tiny


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills")
    parser.add_argument("--kills", type=int, default=100, help="kills of training runs")
    parser.add_argument("--predictions", type=int, default=10, help="ended prediction jobs")
    parser.add_argument("--each", type=int, default=10, help="largest number of kills of one job")
    parser.add_argument("--iterations", type=int, default=20, help="steps of a training run")
    arguments = parser.parse_args()
    most = arguments.each
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        trained = []
        while sum(job.kills for job in trained) < arguments.kills:
            out = root / f"train{len(trained)}"
            trained.append(kill_training(out, most, len(trained), arguments.iterations))
            show("training", trained)
        predicted: list[Kills] = []
        recipe = tiny("training.iterations=2")
        in_child(lambda: train_splits(recipe, splits_of(recipe), RunFolder(root / "run")))
        while sum(job.kills for job in predicted) < arguments.predictions:
            out = root / f"predict{len(predicted)}"
            predicted.append(kill_prediction(root / "run", out, most, len(predicted)))
            show("prediction", predicted)
    return int(any(job.differences for job in (*trained, *predicted)))


def show(what: str, jobs: list[Kills]) -> None:
    kills = sum(job.kills for job in jobs)
    writing = sum(job.while_writing for job in jobs)
    different = [name for job in jobs for name in job.differences]
    print(
        f"{what}: {len(jobs)} jobs, {kills} kills, {writing} while a file was written, "
        f"{len(different)} differences {different[:5]}",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
