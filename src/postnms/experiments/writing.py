"""The page of an experiment and the records of its runs, as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from postnms.errors import UserError
from postnms.experiments.comparison import Comparison
from postnms.experiments.finished import FinishedRun
from postnms.experiments.page import MADE_BY, Page, markdown
from postnms.experiments.placement import Placement, picture, placements_of
from postnms.experiments.plan import Plan
from postnms.experiments.recorded import Recorded, check_beside, write_recorded
from postnms.experiments.records import record_of, without_places
from postnms.experiments.summary import summarize
from postnms.files.atomic import write_json, write_text
from postnms.files.json_files import read_json

BELOW_BEST = 2.0
"""AP by which a suppressor may be below the best one of a run, so that resamples of it are kept."""
SUMMARY = "summary.json"
"""Name of the file, beside the records, with what the page says of several runs together."""


def write_page(
    path: Path,
    comparison: Comparison,
    command: str,
    *,
    made_by: str = MADE_BY,
    in_short: Sequence[str] | None = None,
    first: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write the page of an experiment, and the record of each run into a folder beside it.

    The folder has the name of the page without its ending. It also gets :data:`SUMMARY`. From the
    records the page can be made without the runs, see :attr:`Plan.records`.

    Args:
        path: the page, a Markdown file.
        comparison: the finished runs.
        command: the command that makes the page.
        made_by: the first line of the page.
        in_short: paragraphs below the title. None: those on the first differences.
        first: paragraphs in front of the first section.
        facts: what else :data:`SUMMARY` gets.

    Raises:
        UserError: a file of a run is not as it must be, or the operating system refuses.
    """
    from postnms.analysis.plots import plot_placement

    summary = summarize(comparison)
    plan = comparison.plan
    folder = path.with_suffix("")
    placements = placements_of(comparison)
    recorded = [_record(comparison, finished, placements) for finished in comparison.runs]
    for finished, record in zip(comparison.runs, recorded, strict=True):
        file = folder / f"{finished.run.name}.json"
        if finished.record is None or plan.record(finished.run) != file:
            write_recorded(file, record)
    records = [record.content for record in recorded]
    for placement in placements:
        plot_placement(*placement.sides, picture(folder, placement))
    content = {**summary.to_json(), **(facts or {})}
    if placements:
        content["placement"] = [placement.to_json() for placement in placements]
    write_json(folder / SUMMARY, content)
    command = without_places(command, plan.folder)
    link = quote(folder.name)
    page = Page(comparison, summary, records, link, command, placements, made_by, in_short, first)
    write_text(path, markdown(page))


def _record(
    comparison: Comparison, finished: FinishedRun, placements: Sequence[Placement]
) -> Recorded:
    """Return the record of a run, with what a page needs without the run."""
    if finished.record is not None:
        return finished.record
    run, plan = finished.run, comparison.plan
    placed = [
        (part.before[number], part.after[number] if part.after else None)
        for part in placements
        if part.arm == run.arm
        for number, seed in enumerate(part.seeds)
        if seed == run.seed
    ]
    further = [
        row for row in plan.further_rows(run.arm) if row in finished.sources
        and row not in finished.suppressors
    ]  # fmt: skip
    rows = [*finished.evaluation.rows, *further, *_good(finished.suppressors)]
    return Recorded(
        record_of(plan, finished),
        comparison.val_set(run),
        {row: comparison.figures(finished, row) for row in further},
        {row: comparison.resampled(finished, row).drawn[0] for row in rows},
        placed[0] if placed else None,
    )


def _good(suppressors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the suppressors one of which can be the best over several seeds."""
    aps = {name: row["figures"]["AP"] for name, row in suppressors.items()}
    known = [ap for ap in aps.values() if ap is not None]
    least = max(known, default=0.0) - BELOW_BEST
    return [name for name, ap in aps.items() if ap is None or ap >= least]


def check_page(path: Path, plan: Plan, made_by: str = MADE_BY) -> None:
    """Raise UserError if the page of a plan would replace files that are none of an earlier page.

    A page is known by its first line, whatever ends the line.
    """
    if path.suffix != ".md":
        raise UserError(f"{path}: expected a name that ends in .md", argument="page")
    if path.exists():
        first = path.read_bytes().partition(b"\n")[0] if path.is_file() else b""
        if first.removesuffix(b"\r") != made_by.encode():
            verb = "experiment" if made_by == MADE_BY else "reproduce"
            raise UserError(
                f"{path}: is there and is no page of {verb!r}; name another", argument="page"
            )
    folder = path.with_suffix("")
    # A record has the name of its run, as the candidates of the run have among the runs.
    if folder.resolve() == plan.folder.resolve():
        raise UserError(
            f"{path}: its records would lie among the runs in {folder}; name another page",
            argument="page",
        )
    _check_has(folder / SUMMARY, {"experiment", "seeds"})
    for run in plan.runs:
        record = folder / f"{run.name}.json"
        _check_has(record, {"experiment", "arm"})
        check_beside(record)


def _check_has(path: Path, fields: set[str]) -> None:
    """Raise UserError if a file is there that is no JSON object with the fields of ours."""
    if not path.exists():
        return
    try:
        content = read_json(path)
    except UserError:
        content = None
    if not (isinstance(content, dict) and fields <= content.keys()):
        raise UserError(
            f"{path}: is there and is no file of an experiment; name another page", argument="page"
        )
