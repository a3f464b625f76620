"""The report of a training run while it lasts.

It has a progress bar with losses, speed and the remaining time, a log in JSON lines, and
TensorBoard.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from types import TracebackType
from typing import Any, Self

import psutil
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from torch import Tensor

from postnms.evaluation.metrics import show
from postnms.evaluation.results import Evaluation
from postnms.files.atomic import write_text
from postnms.recipes import TrainingConfig
from postnms.runs.folder import RunFolder
from postnms.structures import NMS_ROW, POST_NMS_ROW
from postnms.training.schedule import Schedule
from postnms.training.trackers import start_trackers


class TrainingReport:
    """The progress of a run, on the terminal and in its log. It is used in a ``with`` block.

    Only process 0 shows and writes anything, but all processes must call :meth:`step`.

    Args:
        folder: the folder of the run. Lines of its log after iteration ``start`` are removed.
        config: the trackers and the batch size.
        schedule: the number of iterations, and how often to log.
        accelerator: the processes that train together.
        start: number of iterations that are finished already.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: TrainingConfig,
        schedule: Schedule,
        accelerator: Accelerator,
        start: int,
    ) -> None:
        self.folder = folder
        self.batch_size = config.batch_size
        self.schedule = schedule
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        self.last = (time.perf_counter(), start)
        self.best: float | None = None
        if self.main:
            self.best = _best_ap(_cut_log(folder, start))
        self.start_trackers = partial(start_trackers, config.trackers, folder, start)
        self.trackers: list[GeneralTracker] = []
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
        )
        self.task = self.progress.add_task("training", total=schedule.iterations, completed=start)
        self.losses = Text()
        self.live = Live(Group(self.progress, self.losses), console=Console(stderr=True))

    def __enter__(self) -> Self:
        if self.main:
            self.trackers = self.start_trackers()
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()
        if self.main and not self.live.console.is_terminal:
            # Rich ends the last line on terminals only.
            self.live.console.print()
        for tracker in self.trackers:
            tracker.finish()

    def step(self, iteration: int, losses: Mapping[str, Tensor], rate: float) -> None:
        """Report an iteration. All processes call this after every iteration.

        Each ``log_every``-th iteration and the last one are shown and written, with the means of
        the losses over the processes.

        Args:
            iteration: the iteration, counted from 0.
            losses: the losses of this process, as scalars by name.
            rate: the learning rate of the detector.
        """
        self.progress.advance(self.task)
        if (iteration + 1) % self.schedule.log_every and iteration + 1 != self.schedule.iterations:
            return
        means = self.accelerator.reduce(
            {name: loss.float() for name, loss in losses.items()}, reduction="mean"
        )
        if not self.main:
            return
        values = {name: float(loss) for name, loss in means.items()}
        total = sum(values.values())
        now = (time.perf_counter(), iteration + 1)
        seconds = (now[0] - self.last[0]) / max(now[1] - self.last[1], 1)
        self.last = now
        shown = ", ".join(
            f"{name.removeprefix('loss_')} {value:.3f}" for name, value in values.items()
        )
        speed = {
            "lr": rate,
            "seconds_per_iteration": seconds,
            "images_per_second": self.batch_size / seconds,
            "memory_mib": memory_mib(self.accelerator.device),
        }
        best = "" if self.best is None else f", best AP {self.best:.2f}"
        self.losses.plain = (
            f"loss {total:.3f}: {shown}\n{speed['images_per_second']:.1f} images/s, lr {rate:.2g}"
            f"{best}, memory {speed['memory_mib']:.0f} MiB"
        )
        self._write(iteration + 1, {"loss": total, **values, **speed})

    def metrics(self, finished: int, evaluation: Evaluation) -> None:
        """Show and write the evaluation after ``finished`` iterations."""
        # The time of the evaluation does not count as that of the next iterations.
        self.last = (time.perf_counter(), finished)
        if not self.main:
            return
        parts = dict(evaluation.rows)
        parts |= {f"gain of {row}": asdict(gain) for row, gain in evaluation.gains.items()}
        figures = {
            f"{row}/{name}": value
            for row, values in parts.items()
            for name, value in values.items()
        }
        self.best = _best_ap([{"best_ap": self.best}, figures])
        figures["best_ap"] = self.best
        shown = ", ".join(
            f"{row} AP {show(values['AP'], 2)}" for row, values in evaluation.rows.items()
        )
        self.live.console.print(f"iteration {finished}: {shown}", highlight=False)
        self._write(finished, {name: value for name, value in figures.items() if value is not None})

    def _write(self, finished: int, values: dict[str, Any]) -> None:
        """Append a line to the log, and send its values to the trackers."""
        with self.folder.log.open("a") as file:
            file.write(json.dumps({"iteration": finished, **values}) + "\n")
        for tracker in self.trackers:
            tracker.log(values, step=finished)


def memory_mib(device: torch.device) -> float:
    """Return memory in MiB: the peak of this process on a GPU, or what it holds now on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return psutil.Process().memory_info().rss / 2**20


def _best_ap(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the best AP among lines of a log, of the stage's row where there is one."""
    found = []
    for line in lines:
        aps = (line.get(name) for name in ("best_ap", f"{POST_NMS_ROW}/AP", f"{NMS_ROW}/AP"))
        found += [ap for ap in aps if isinstance(ap, int | float)][:1]
    return max(found, default=None)


def _cut_log(folder: RunFolder, start: int) -> list[dict[str, Any]]:
    """Remove the lines of the log after iteration ``start``, and return the others.

    Lines that are damaged, such as a last one that is half written, are removed too.
    """
    kept = []
    lines = []
    for line in folder.log.read_bytes().splitlines() if folder.log.is_file() else []:
        try:
            entry = json.loads(line)
            if entry["iteration"] <= start:
                kept.append(line.decode() + "\n")
                lines.append(entry)
        except (ValueError, RecursionError, LookupError, TypeError):
            continue
    write_text(folder.log, "".join(kept))
    return lines
