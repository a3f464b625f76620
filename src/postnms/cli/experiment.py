"""``postnms experiment``: run what a file describes, and make one page of it."""

import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postnms.cli.console import command_line, say, visible
from postnms.cli.options import FromRecords, Jobs, PrintCommands, Threads
from postnms.errors import UserError, listed

if TYPE_CHECKING:
    from postnms.experiments.config import Experiment
    from postnms.experiments.plan import Plan
    from postnms.experiments.state import Job

_NAMED = re.compile(r"([\w.-]+)=(.+)")
"""NAME=FOLDER."""


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
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FOLDER",
            help="Data folder in place of that of the file; with NAME= only in place of a folder "
            "of this name; repeatable.",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Where the page goes: FILE.md, or a folder for one page an experiment; "
            "default: page.md in the folder of the experiment."
        ),
    ] = None,
    page_only: Annotated[
        bool,
        typer.Option(
            "--page-only", help="Run nothing; make the page of the runs that are finished."
        ),
    ] = False,
    recorded: FromRecords = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARM", help="Run this arm alone, and what it starts from; repeatable."
        ),
    ] = None,
    jobs: Jobs = 2,
    threads: Threads = 1,
    commands: PrintCommands = False,
) -> None:
    """Run the experiments of files, go on where they stopped, and write records and a page.

    Ctrl-C stops the running trainings with checkpoints. The same command goes on from there.
    """
    plans = _plans(files, out, data or [])
    pages = _pages(plans, page)
    if recorded:
        plans = [with_records(plan, path) for plan, path in zip(plans, pages, strict=True)]
    arms = _arms(plans, only or [])
    if page_only:
        for plan, path in zip(plans, pages, strict=True):
            _write(plan, path)
    elif commands:
        _print_commands(plans, arms)
    else:
        with ExitStack() as held:
            for plan in plans:
                held.enter_context(_hold(plan))
            _run(plans, arms, jobs, threads)
            _write_complete(plans, pages)


_NO_PAGE = "no page is made (--page-only makes one of the finished runs)"


def with_records(plan: "Plan", page: Path) -> "Plan":
    """Return a plan with the records beside a page in place of runs that are not there."""
    return replace(plan, records=page.with_suffix(""))


def _print_commands(plans: "Sequence[Plan]", arms: Sequence[list[str]]) -> None:
    """Print what is left to do for some arms of each plan."""
    from postnms.experiments.state import jobs_of

    for plan, some in zip(plans, arms, strict=True):
        print_jobs(jobs_of(plan, some) if some else [])


def print_jobs(jobs: "Sequence[Job]") -> None:
    """Print jobs as lines of a shell that do not depend on each other."""
    from postnms.experiments.jobs import command_lines

    for line in command_lines(jobs):
        print(visible(line))


def _run(plans: "Sequence[Plan]", arms: Sequence[list[str]], at_once: int, threads: int) -> None:
    """Run what is left to do for some arms of each plan. Exit if a job fails or a signal comes."""
    from postnms.experiments.state import jobs_of

    chosen = [(plan, some) for plan, some in zip(plans, arms, strict=True) if some]
    left = [job for plan, some in chosen for job in jobs_of(plan, some)]
    run_or_exit(left, sum(len(plan.runs) for plan in plans), at_once, threads, _NO_PAGE)


def run_or_exit(
    left: "Sequence[Job]", runs: int, at_once: int, threads: int, otherwise: str
) -> None:
    """Run jobs side by side. Exit if a job fails or a signal comes.

    ``runs`` is the number of all runs, and ``otherwise`` says what does not follow after a failure.
    """
    from postnms.experiments.jobs import failure, run_jobs

    say(f"jobs to do: {len(left)}, for {runs} runs")
    ended = run_jobs(left, at_once=at_once, threads=threads, say=say)
    if ended.stopped_by is not None:
        print(visible(f"stopped; go on with: {command_line()}"), file=sys.stderr)
        sys.exit(128 + ended.stopped_by)
    if ended.failed:
        print(visible(f"postnms: {failure(ended)}; {otherwise}"), file=sys.stderr)
        sys.exit(1)


def _write_complete(plans: "Sequence[Plan]", pages: Sequence[Path]) -> None:
    """Write the pages of the plans whose runs are all finished, and say which are not."""
    from postnms.experiments.state import jobs_of

    for plan, path in zip(plans, pages, strict=True):
        if open_jobs := jobs_of(plan):
            say(f"{plan.folder}: jobs left for other arms: {len(open_jobs)}; {_NO_PAGE}")
        else:
            _write(plan, path)


def _plans(files: Sequence[Path], out: Path, data: Sequence[str]) -> "list[Plan]":
    """Read the files, each of which has a folder of its own."""
    from postnms.experiments.config import read_experiment
    from postnms.experiments.plan import make_plan

    experiments = [read_experiment(file) for file in files]
    for number, one in enumerate(experiments):
        if one.name in [other.name for other in experiments[:number]]:
            raise UserError(f"{one.path}: expected files of different names, got {one.name} twice")
    folders = _data(experiments, data)
    return [
        make_plan(one, out / one.name, folder)
        for one, folder in zip(experiments, folders, strict=True)
    ]


def _data(experiments: "Sequence[Experiment]", texts: Sequence[str]) -> list[Path | None]:
    """Return the data folder of each experiment that ``--data`` names. None: that of the file."""
    folders: list[Path | None] = [None] * len(experiments)
    names = [one.config.data and Path(one.config.data).name for one in experiments]
    for text in texts:
        named = _NAMED.fullmatch(text)
        name, folder = named.groups() if named else (None, text)
        if named and name not in names:
            known = listed(list(dict.fromkeys(name for name in names if name))) or "no folder"
            raise UserError(
                f"{text}: expected the name of a data folder of the files, which have {known}",
                argument="data",
            )
        for number, own in enumerate(names):
            if not named or own == name:
                if folders[number] is not None:
                    raise UserError(
                        f"{text}: expected one folder for {experiments[number].path}, "
                        f"got {folders[number]} as well",
                        argument="data",
                    )
                folders[number] = Path(folder)
    return folders


def _arms(plans: "Sequence[Plan]", only: Sequence[str]) -> list[list[str]]:
    """Return those arms of each experiment that are to be run."""
    from postnms.config import nearest

    arms = [list(plan.counted) for plan in plans]
    for name in only:
        if not any(name in some for some in arms):
            known = list(dict.fromkeys(arm for some in arms for arm in some))
            raise UserError(f"no arm {name!r} ({nearest(name, known)})", argument="only")
    return [[arm for arm in some if not only or arm in only] for some in arms]


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
    for path, plan in zip(pages, plans, strict=True):
        check_page(path, plan)
    return pages


def _hold(plan: "Plan") -> AbstractContextManager[None]:
    """Hold the folder of an experiment, so that no other process starts its runs meanwhile."""
    from postnms.experiments.folder import hold_experiment

    return hold_experiment(plan, command_line())


def _write(plan: "Plan", path: Path) -> None:
    """Measure the differences, and write records and page."""
    from postnms.experiments.comparison import Comparison
    from postnms.experiments.finished import read_all_finished
    from postnms.experiments.writing import write_page

    comparison = Comparison(plan, read_all_finished(plan))
    write_page(path, comparison, command_line())
    runs = len(comparison.runs)
    say(f"{path}: the page of {runs} runs, with their records in {path.with_suffix('')}")
    if comparison.missing:
        say(f"not finished: {listed(comparison.missing)}")
