"""The page of an experiment and the records of its runs, as files."""

from pathlib import Path

from postnms.errors import UserError
from postnms.experiments.comparison import Comparison
from postnms.experiments.page import MADE_BY, Page, markdown
from postnms.experiments.records import record_of, without_places
from postnms.experiments.summary import summarize
from postnms.files.atomic import write_json, write_text

SUMMARY = "summary.json"
"""Name of the file, beside the records, with what the page says of several runs together."""


def write_page(path: Path, comparison: Comparison, command: str) -> None:
    """Write the page of an experiment, and the record of each run into a folder beside it.

    The folder has the name of the page without its ending. It also gets :data:`SUMMARY`.

    Args:
        path: the page, a Markdown file.
        comparison: the finished runs.
        command: the command that makes the page.

    Raises:
        UserError: a file of a run is not as it must be, or the operating system refuses.
    """
    summary = summarize(comparison)
    plan = comparison.plan
    records = [record_of(plan, finished) for finished in comparison.runs]
    folder = path.with_suffix("")
    for finished, record in zip(comparison.runs, records, strict=True):
        write_json(folder / f"{finished.run.name}.json", record)
    write_json(folder / SUMMARY, summary.to_json())
    command = without_places(command, plan.folder)
    page = Page(comparison, summary, records, folder.name, command)
    write_text(path, markdown(page))


def check_page(path: Path) -> None:
    """Raise UserError if a file is there that is no page of an experiment."""
    if path.suffix != ".md":
        raise UserError(f"{path}: expected a name that ends in .md", argument="page")
    if path.exists():
        first = path.read_bytes().partition(b"\n")[0] if path.is_file() else b""
        if first != MADE_BY.encode():
            raise UserError(
                f"{path}: is there and is no page of 'experiment'; name another", argument="page"
            )
