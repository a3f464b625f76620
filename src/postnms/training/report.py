"""What a person sees of a run while it trains: progress with losses and time left, TensorBoard, a JSON-lines log."""

import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from accelerate import Accelerator
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
from postnms.files.atomic import write_text
from postnms.recipes import TrainingConfig
from postnms.runs.folder import RunFolder


class TrainingReport:
    """Shows and writes the progress of a run; only process 0 does. On resuming, later log lines are cut off."""

    def __init__(
        self, folder: RunFolder, config: TrainingConfig, accelerator: Accelerator, start: int
    ) -> None:
        self.folder, self.config, self.accelerator = folder, config, accelerator
        self.main = accelerator.is_main_process
        self.last = (time.perf_counter(), start)
        if self.main:
            _cut_log(folder, start)
        accelerator.init_trackers(
            "tensorboard", init_kwargs={"tensorboard": {"purge_step": start + 1}}
        )
        self.progress = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("eta"),
            TimeRemainingColumn(),
        )  # fmt: skip
        self.task = self.progress.add_task("training", total=config.iterations, completed=start)
        self.losses = Text()
        self.live = Live(Group(self.progress, self.losses), console=Console(stderr=True))

    def __enter__(self) -> Self:
        if self.main:
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
            self.live.console.print()  # rich ends the last line on terminals only
        for tracker in self.accelerator.trackers:  # end_training would end the processes' group too
            tracker.finish()

    def step(self, iteration: int, losses: Mapping[str, Tensor], rate: float) -> None:
        """After every iteration, in every process; writes each ``log_every`` th, the means over the processes."""
        self.progress.advance(self.task)
        if (iteration + 1) % self.config.log_every and iteration + 1 != self.config.iterations:
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
        self.losses.plain = f"loss {total:.3f}: {shown}"
        self._write(
            iteration + 1, {"loss": total, **values, "lr": rate, "seconds_per_iteration": seconds}
        )

    def metrics(self, finished: int, metrics: Mapping[str, Mapping[str, float | None]]) -> None:
        """After an evaluation."""
        self.last = (time.perf_counter(), finished)
        if not self.main:
            return
        flat = {
            f"{row}/{name}": value
            for row, figures in metrics.items()
            for name, value in figures.items()
        }
        shown = ", ".join(
            f"{row} AP {show(figures['AP'], 2)}"
            for row, figures in metrics.items()
            if row != "gain"
        )
        self.live.console.print(f"iteration {finished}: {shown}", highlight=False)
        self._write(finished, {name: value for name, value in flat.items() if value is not None})

    def _write(self, finished: int, values: dict[str, Any]) -> None:
        with self.folder.log.open("a") as file:
            file.write(json.dumps({"iteration": finished, **values}) + "\n")
        self.accelerator.log(values, step=finished)


def _cut_log(folder: RunFolder, start: int) -> None:
    """Drop the lines after iteration ``start``; a half-written last line goes too."""
    kept = []
    for line in folder.log.read_text().splitlines() if folder.log.is_file() else []:
        try:
            iteration = json.loads(line)["iteration"]
        except json.JSONDecodeError:
            continue
        if iteration <= start:
            kept.append(line + "\n")
    write_text(folder.log, "".join(kept))
