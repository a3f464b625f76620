"""``postnms experiment``: run what a file describes, and make one page of it."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postnms.cli.console import command_line, say, visible
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.experiments.plan import Plan


def experiment(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files of experiments (.yaml).")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="Folder with one folder for each experiment, named as its file."
        ),
    ] = Path("runs"),
    data: Annotated[
        Path | None,
        typer.Option(help="Data folder or data.yaml in place of that of the file."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Where the page goes: FILE.md, or a folder for one page an experiment; "
            "default: page.md in the folder of the experiment."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of runs side by side.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads of each run.")] = 1,
    commands: Annotated[
        bool,
        typer.Option("--commands", help="Run nothing; print what is left to do as shell commands."),
    ] = False,
) -> None:
    """Run the experiments of files, go on where they stopped, and write records and a page.

    Ctrl-C stops the running trainings with checkpoints. The same command goes on from there.
    """
    from postnms.experiments.jobs import failure, run_jobs
    from postnms.experiments.state import jobs_of

    plans = _plans(files, out, data)
    pages = _pages(plans, page)
    if commands:
        for plan in plans:
            for job in jobs_of(plan):
                print(visible(f"postnms {shlex.join(job.words)}"))
        return
    with ExitStack() as held:
        for plan in plans:
            held.enter_context(_hold(plan))
        left = [job for plan in plans for job in jobs_of(plan)]
        say(f"jobs to do: {len(left)}, for {sum(len(plan.runs) for plan in plans)} runs")
        ended = run_jobs(left, at_once=jobs, threads=threads, say=say)
        if ended.stopped_by is not None:
            print(visible(f"stopped; go on with: {command_line()}"), file=sys.stderr)
            sys.exit(128 + ended.stopped_by)
        if ended.failed:
            print(visible(f"postnms: {failure(ended)}; no page is made"), file=sys.stderr)
            sys.exit(1)
        for plan, path in zip(plans, pages, strict=True):
            _write(plan, path)


def _plans(files: Sequence[Path], out: Path, data: Path | None) -> "list[Plan]":
    """Read the files, each of which has a folder of its own."""
    from postnms.experiments.config import read_experiment
    from postnms.experiments.plan import make_plan

    experiments = [read_experiment(file) for file in files]
    for number, one in enumerate(experiments):
        if one.name in [other.name for other in experiments[:number]]:
            raise UserError(f"{one.path}: expected files of different names, got {one.name} twice")
    return [make_plan(one, out / one.name, data) for one in experiments]


def _pages(plans: "Sequence[Plan]", page: Path | None) -> list[Path]:
    """Return where the page of each experiment goes, after a check that nothing is lost there."""
    from postnms.experiments.writing import check_page

    if page is not None and page.suffix == ".md":
        if len(plans) > 1:
            raise UserError(f"{page}: expected a folder for several pages", argument="page")
        pages = [page]
    elif page is not None:
        pages = [page / f"{plan.experiment.name}.md" for plan in plans]
    else:
        pages = [plan.folder / "page.md" for plan in plans]
    for path in pages:
        check_page(path)
    return pages


def _hold(plan: "Plan") -> AbstractContextManager[None]:
    """Hold the folder of an experiment, so that no other process starts its runs meanwhile."""
    from postnms.experiments.folder import hold_experiment

    return hold_experiment(plan, command_line())


def _write(plan: "Plan", path: Path) -> None:
    """Measure the differences, and write records and page."""
    from postnms.experiments.finished import Comparison, read_finished
    from postnms.experiments.writing import write_page

    runs = [read_finished(plan, run) for run in plan.runs]
    write_page(path, Comparison(plan, runs), command_line())
    say(f"{path}: the page of {len(runs)} runs, with their records in {path.with_suffix('')}")
