"""The page of a table of the paper, and the records of its runs, as files."""

from pathlib import Path

from postnms.experiments.comparison import Comparison
from postnms.experiments.paper.printed import PaperTable
from postnms.experiments.paper.report import lines_of, section, sentence
from postnms.experiments.writing import write_page

REPRODUCED = "<!-- Made by postnms reproduce. -->"
"""The first line of every such page, by which it is told from other files."""


def write_reproduction(path: Path, comparison: Comparison, paper: PaperTable, command: str) -> None:
    """Write the page of a table, and the records that an experiment writes beside it.

    ``summary.json`` also has the rows of the table, with the paper's figures and ours.

    Args:
        path: the page, a Markdown file.
        comparison: the finished runs.
        paper: the table.
        command: the command that makes the page.

    Raises:
        UserError: a file of a run is not as it must be, or the operating system refuses.
    """
    lines = lines_of(comparison, paper)
    write_page(
        path,
        comparison,
        command,
        made_by=REPRODUCED,
        in_short=[f"**{sentence(lines)}**"] if lines else None,
        first=section(paper, lines) if lines else (),
        facts={"table": [line.to_json() for line in lines]} if lines else {},
    )
