"""``postnms reproduce``: the tables of the paper, its figures beside ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from postnms.cli.console import command_line, print_wide, say, visible
from postnms.cli.experiment import print_jobs, run_or_exit, with_records
from postnms.cli.options import Changes, FromRecords, Jobs, PrintCommands, Threads
from postnms.errors import UserError, listed

if TYPE_CHECKING:
    from postnms.experiments.comparison import Comparison
    from postnms.experiments.paper.experiments import Reproduction
    from postnms.experiments.plan import Plan
    from postnms.experiments.state import Job


def reproduce(
    tables: Annotated[
        list[str],
        typer.Argument(metavar="TABLE...", help="table1 to table6, or figure2."),
    ],
    data: Annotated[Path, typer.Option(help="Data folder, for coco that of COCO.")],
    scale: Annotated[
        Literal["coco", "small", "pretrained"],
        typer.Option(
            help="Recipes of the paper, for COCO and several GPUs; small ones, for some hundred "
            "images and a CPU; or such ones with a pretrained backbone, which not all detectors of "
            "table1 have."
        ),
    ] = "coco",
    frozen: Annotated[
        bool,
        typer.Option(
            "--frozen",
            help="Train each detector once for each seed, and only the stages and heads of the "
            "rows on it: much faster, and not what the paper does.",
        ),
    ] = False,
    seeds: Annotated[int, typer.Option(help="Number of seeds, which count from 0.")] = 3,
    runs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs, which tables share; default: runs/paper_SCALE, with _frozen "
            "behind it for --frozen."
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Write a page and the records of the runs: FILE.md, or a folder for one page a "
            "table; default: none."
        ),
    ] = None,
    page_only: Annotated[
        bool,
        typer.Option("--page-only", help="Run nothing; show the runs that are finished."),
    ] = False,
    recorded: FromRecords = False,
    jobs: Jobs = 2,
    threads: Threads = 1,
    commands: PrintCommands = False,
    changes: Changes = None,
) -> None:
    """Make tables of the paper anew, and show its figures beside ours.

    Runs that tables share are trained once, and runs that are finished are not trained again.
    """
    from postnms.experiments.paper.experiments import reproduction
    from postnms.experiments.plan import make_plan

    names = list(dict.fromkeys(tables))
    asked = [reproduction(name, scale, seeds, changes or (), frozen=frozen) for name in names]
    if not data.exists() and not recorded:
        raise UserError(f"{data}: no such data folder", argument="data")
    default = Path("runs") / f"paper_{scale}{'_frozen' if frozen else ''}"
    folder = default if runs is None else runs
    plans = [make_plan(one.experiment, folder, data) for one in asked]
    pages = _pages(plans, page)
    if recorded:
        if page is None:
            raise UserError("expected --page, beside which the records are", argument="recorded")
        plans = [with_records(*pair) for pair in zip(plans, filter(None, pages), strict=True)]
    if commands:
        print_jobs(_shared_jobs(plans))
        return
    if not page_only:
        _run(plans, jobs, threads)
    for one, plan, path in zip(asked, plans, pages, strict=True):
        _show(one, plan, path)


def _shared_jobs(plans: "Sequence[Plan]") -> "list[Job]":
    """Return what is left to do for all plans, each command once."""
    from postnms.experiments.state import jobs_of

    jobs = {job.words: job for plan in plans for job in jobs_of(plan)}
    return list(jobs.values())


def _run(plans: "Sequence[Plan]", at_once: int, threads: int) -> None:
    """Run what is left to do. Exit if a job fails or a signal comes."""
    from postnms.experiments.folder import hold_experiment

    # The tables share one folder. A plan that has runs there already says that it is ours.
    first = next((p for p in plans if any(r.folder.recipe.is_file() for r in p.runs)), plans[0])
    with hold_experiment(first, command_line()):
        count = len({run.name for plan in plans for run in plan.runs})
        run_or_exit(_shared_jobs(plans), count, at_once, threads, _NO_TABLE)


_NO_TABLE = "no table is made (--page-only shows the finished runs)"


def _pages(plans: "Sequence[Plan]", page: Path | None) -> list[Path | None]:
    """Return where the page of each table goes, after a check that nothing is lost there."""
    from postnms.experiments.paper.pages import REPRODUCED
    from postnms.experiments.writing import check_page

    if page is None:
        return [None] * len(plans)
    if page.suffix == ".md" and len(plans) > 1:
        raise UserError(f"{page}: expected a folder for several pages", argument="page")
    names = [plan.experiment.name for plan in plans]
    pages = [page] if page.suffix == ".md" else [page / f"{name}.md" for name in names]
    for path, plan in zip(pages, plans, strict=True):
        check_page(path, plan, REPRODUCED)
    return [*pages]


def _show(asked: "Reproduction", plan: "Plan", path: Path | None) -> None:
    """Print a table, and write its page if there is to be one."""
    from postnms.experiments.comparison import Comparison
    from postnms.experiments.finished import read_all_finished
    from postnms.experiments.paper.pages import write_reproduction

    comparison = Comparison(plan, read_all_finished(plan))
    _print(asked, comparison)
    if comparison.missing:
        say(f"not finished: {listed(comparison.missing)}")
    if path is not None:
        write_reproduction(path, comparison, asked.table, command_line())
        say(f"{path}: the page, with the records of its runs in {path.with_suffix('')}")


def _print(asked: "Reproduction", comparison: "Comparison") -> None:
    """Print the rows of a table beside ours, or the means of a figure."""
    from postnms.experiments.paper.report import cells_of, heads_of, lines_of, sentence
    from postnms.experiments.placement import means, placements_of

    title = asked.experiment.config.title
    if lines := lines_of(comparison, asked.table):
        _print_table(title, heads_of(asked.table), [cells_of(line) for line in lines])
        say(sentence(lines))
    for placement in placements_of(comparison):
        heads = ["IoU with the object", "before the stage", "after it"]
        _print_table(title, heads, means(placement))


def _print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Column, Table

    first, *others = heads
    columns = [Column(head, justify="right") for head in others]
    table = Table(
        Column(first, no_wrap=True), *columns, title=title, box=None, padding=(0, 2, 0, 0)
    )
    for cells in rows:
        table.add_row(*map(visible, cells))
    print_wide(table)
