"""``postnms analyse``: errors and scores of suppressors, and the placement of clusters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from postnms.cli.compare import about_study, open_named_study
from postnms.cli.console import command_line, print_wide, progress_bar, say, visible
from postnms.cli.options import Annotations, AnySplit, Candidates, Suppressors
from postnms.cli.suppressors import read_choices

if TYPE_CHECKING:
    from postnms.analysis.diagnosis import Analysis


def analyse(
    file: Candidates,
    folder: Annotated[
        Path,
        typer.Option("--out", help="Folder to write analyse.json and its charts to."),
    ],
    data: Annotations = None,
    split: AnySplit = None,
    suppressor: Suppressors = None,
    recall: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1,
            help="Recall at which duplicates are counted; default: the highest of all rows.",
        ),
    ] = None,
) -> None:
    """Show errors by TIDE's types, duplicates, what scores mean, and the placement of clusters."""
    from postnms.analysis.diagnosis import analyse as analyse_study
    from postnms.analysis.reports import MARKERS, PLACEMENT, write_analysis
    from postnms.files.folders import own_folder

    study = open_named_study(file, data, split)
    candidates = study.candidates
    choices = read_choices(suppressor or "nms", candidates)
    with own_folder(folder, "a folder of reports", *MARKERS, command=command_line()):
        with progress_bar("rows", len(choices) + len(candidates.rows)) as done:
            analysis = analyse_study(study, choices, recall, done)
        names = write_analysis(analysis, about_study(study), folder)
    print_wide(_table(analysis))
    print_wide(_score_table(analysis))
    for side, ious in (("before the stage", analysis.before), ("after it", analysis.after)):
        if ious is not None and len(ious.key):
            means = [
                f"{name} {getattr(ious, field).mean():.3f}" for name, field in PLACEMENT.items()
            ]
            say(f"{len(ious.key)} clusters on an object {side}: {', '.join(means)}")
    say(f"{', '.join(names[:-1])} and {names[-1]} in {folder}")


def _table(analysis: "Analysis") -> Table:
    from postnms.evaluation.metrics import show
    from postnms.evaluation.tide import ERROR_TYPES

    duplicates = f"dup. % at recall {analysis.recall:.2f}"
    titles = ["AP50", *ERROR_TYPES, "false pos.", "false neg.", duplicates, "max. recall"]
    table = Table(
        Column("row", no_wrap=True),
        *(Column(title, justify="right") for title in titles),
        box=None,
        padding=(0, 1, 0, 0),
        title="what each type of error costs, in AP50 (how often it is made)",
    )
    for name, row in analysis.rows.items():
        errors = row.errors
        costs = [f"{errors.costs[kind]:.1f} ({errors.counts[kind]})" for kind in ERROR_TYPES]
        table.add_row(
            visible(name),
            show(errors.ap50),
            *costs,
            f"{errors.false_positives:.1f}",
            f"{errors.false_negatives:.1f}",
            show(row.duplicates),
            f"{row.max_recall:.2f}",
        )
    return table


def _score_table(analysis: "Analysis") -> Table:
    """Return calibration, best threshold, and what a picture at this threshold shows."""
    from postnms.evaluation.metrics import show

    titles = ["calibration error", "best F1", "at score", "precision", "recall"]
    an_image = ["detections", "duplicates", "duplicates of all"]
    table = Table(
        Column("row", no_wrap=True),
        *(Column(title, justify="right") for title in [*titles, *an_image]),
        box=None,
        padding=(0, 1, 0, 0),
        title="scores, and detections in an image from the score with the best F1 on",
    )
    for name, row in analysis.rows.items():
        best, counts = row.best_f1, row.duplicate_counts
        fields = [None] * 4 if best is None else [best.f1, best.score, best.precision, best.recall]
        table.add_row(
            visible(name),
            show(row.calibration.error, 3),
            *(show(field, 3) for field in fields),
            show(counts.detections, 2),
            show(counts.shown, 3),
            show(counts.an_image, 2),
        )
    return table
