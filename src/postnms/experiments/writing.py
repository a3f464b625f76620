"""The page of an experiment and the records of its runs, as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from postnms.errors import UserError
from postnms.experiments.comparison import Comparison
from postnms.experiments.page import MADE_BY, Page, markdown
from postnms.experiments.placement import picture, placements_of
from postnms.experiments.records import record_of, without_places
from postnms.experiments.summary import summarize
from postnms.files.atomic import write_json, write_text

SUMMARY = "summary.json"
"""Name of the file, beside the records, with what the page says of several runs together."""


def write_page(
    path: Path,
    comparison: Comparison,
    command: str,
    *,
    made_by: str = MADE_BY,
    first: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write the page of an experiment, and the record of each run into a folder beside it.

    The folder has the name of the page without its ending. It also gets :data:`SUMMARY`.

    Args:
        path: the page, a Markdown file.
        comparison: the finished runs.
        command: the command that makes the page.
        made_by: the first line of the page.
        first: paragraphs in front of the first section.
        facts: what else :data:`SUMMARY` gets.

    Raises:
        UserError: a file of a run is not as it must be, or the operating system refuses.
    """
    from postnms.analysis.plots import plot_placement

    summary = summarize(comparison)
    plan = comparison.plan
    records = [record_of(plan, finished) for finished in comparison.runs]
    folder = path.with_suffix("")
    for finished, record in zip(comparison.runs, records, strict=True):
        write_json(folder / f"{finished.run.name}.json", record)
    placements = placements_of(comparison)
    for placement in placements:
        plot_placement(*placement.sides, picture(folder, placement))
    content = {**summary.to_json(), **(facts or {})}
    if placements:
        content["placement"] = [placement.to_json() for placement in placements]
    write_json(folder / SUMMARY, content)
    command = without_places(command, plan.folder)
    page = Page(comparison, summary, records, folder.name, command, placements, made_by, first)
    write_text(path, markdown(page))


def check_page(path: Path, made_by: str = MADE_BY) -> None:
    """Raise UserError if a file is there that does not begin with the first line of a page."""
    if path.suffix != ".md":
        raise UserError(f"{path}: expected a name that ends in .md", argument="page")
    if path.exists():
        first = path.read_bytes().partition(b"\n")[0] if path.is_file() else b""
        if first != made_by.encode():
            verb = "experiment" if made_by == MADE_BY else "reproduce"
            raise UserError(
                f"{path}: is there and is no page of {verb!r}; name another", argument="page"
            )
