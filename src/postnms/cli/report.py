"""``postnms report``: runs and comparisons as one HTML file."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postnms.cli.console import command_line, progress_bar, say
from postnms.cli.options import AnySplit, Bootstrap, Data
from postnms.cli.outputs import check_replaces

if TYPE_CHECKING:
    from postnms.report.sources import Source
    from postnms.report.subjects import Subject


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|COMPARED|CANDIDATES...",
            help="Runs, folders that 'compare' has written, files that 'dump' has written; those "
            "of one detector are joined.",
        ),
    ],
    file: Annotated[Path, typer.Option("--out", help="HTML file to write.")],
    data: Data = None,
    split: AnySplit = None,
    row: Annotated[
        str | None,
        typer.Option("--row", help="Row to hold against NMS, such as post_nms+soft_nms_linear."),
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="Number of images that the page holds.")] = 24,
    bootstrap: Bootstrap = 1000,
) -> None:
    """Write one HTML page: verdict, table, the images that differ most with their clusters, charts.

    A run needs no dump: its detector looks at the images that are shown.
    """
    from postnms.files.atomic import write_text
    from postnms.report.opening import open_source
    from postnms.report.page import check_is_page, check_jinja, page_of
    from postnms.report.sources import joined

    check_replaces(file, check_is_page, "report of postnms")
    check_jinja()
    opened = joined([open_source(path, data, split) for path in sources])
    subjects = _subjects(opened, row, images, bootstrap)
    page = page_of(opened, subjects, command_line())
    write_text(file, page)
    shown = sum(len(subject.cases) for subject in subjects if subject is not None)
    say(f"{file}: {shown} images, {len(page) / 1e6:.1f} MB")


def _subjects(
    opened: "list[Source]", row: str | None, images: int, bootstrap: int
) -> "list[Subject | None]":
    """Look at each source that has a truth. None: there are figures alone."""
    from tempfile import TemporaryDirectory

    from postnms.distributed.processes import this_device
    from postnms.report.subjects import look_at

    subjects = []
    with TemporaryDirectory() as work, progress_bar("images", images * len(opened)) as done:
        for number, source in enumerate(opened):
            folder = Path(work) / str(number)
            look = partial(
                look_at, row=row, most_images=images, bootstrap=bootstrap, device=this_device()
            )
            subjects.append(None if source.truth is None else look(source, folder, done=done))
    return subjects
