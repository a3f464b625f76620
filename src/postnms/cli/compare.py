"""``postnms compare``: suppressors side by side on the same candidates."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Column, Table

from postnms.cli.console import command_line, print_wide, progress_bar, say, visible
from postnms.cli.limits import say_compared
from postnms.cli.options import Annotations, AnySplit, Bootstrap, Candidates, Suppressors
from postnms.cli.suppressors import every_choice, read_choices

if TYPE_CHECKING:
    from postnms.analysis.comparison import ComparedRow
    from postnms.analysis.study import Study
    from postnms.stage.fusion import Fusion

Boxes = Literal["detector", "refined", "both"]


def compare(
    file: Candidates,
    folder: Annotated[
        Path,
        typer.Option("--out", help="Folder to write compare.csv, compare.json and compare.png to."),
    ],
    data: Annotations = None,
    split: AnySplit = None,
    suppressor: Suppressors = None,
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            help="Add variants with other values of a setting: iou=0.3:0.7:0.05; repeatable.",
        ),
    ] = None,
    boxes: Annotated[
        Boxes,
        typer.Option(help="Boxes and scores to suppress: of the detector, or of the stage."),
    ] = "detector",
    fusion: Annotated[
        str | None,
        typer.Option(
            help="Weights of s_ori, s_clu and s_obj in the scores of the stage: 0.5,0,0.5 or "
            "geometric:0.5,0,0.5; default: those of the run."
        ),
    ] = None,
    bootstrap: Bootstrap = 1000,
) -> None:
    """Replay suppressors on the same candidates: COCO's figures, time, gain over greedy NMS."""
    from postnms.analysis.comparison import compare as compare_suppressors
    from postnms.analysis.comparison import count_rows
    from postnms.analysis.reports import MARKERS, write_comparison
    from postnms.analysis.sweeps import sweep
    from postnms.files.folders import own_folder

    weights = read_fusion(fusion, boxes)
    study = open_named_study(file, data, split)
    candidates = study.candidates
    choices = (
        every_choice(candidates) if suppressor is None else read_choices(suppressor, candidates)
    )
    for text in sweeps or []:
        choices = sweep(choices, text)
    with own_folder(folder, "a folder of reports", *MARKERS, command=command_line()):
        with progress_bar("rows", count_rows(candidates, choices, boxes)) as done:
            rows = compare_suppressors(
                study, choices, boxes=boxes, fusion=weights, bootstrap=bootstrap, done=done
            )
        print_wide(_table(rows))
        say_compared(rows, len(study.candidates))
        about = {**about_study(study), "images": len(candidates)}
        names = write_comparison(rows, about, folder)
    say(f"{', '.join(names[:-1])} and {names[-1]} in {folder}")


def read_fusion(text: str | None, boxes: Boxes) -> "Fusion | None":
    """Return the weights that a user names, if any.

    Raises UserError if they are not weights, or if no boxes of the stage are asked for.
    """
    if text is None:
        return None
    from postnms.errors import UserError
    from postnms.stage.fusion import Fusion

    if boxes == "detector":
        raise UserError(
            "expected --boxes refined or both beside it: the scores of the detector have no "
            f"weights; got {text}",
            argument="fusion",
        )
    return Fusion.parse(text)


def open_named_study(file: Path, data: Path | None, split: str | None) -> "Study":
    """Open candidates and annotations, and say so if the annotations have changed since.

    The annotations of another split may have the same image ids.
    """
    from postnms.analysis.study import open_study

    study = open_study(file, data, split)
    say_other_annotations(study)
    return study


def say_other_annotations(study: "Study") -> None:
    """Say so if the annotations have changed since the candidates were made."""
    if study.has_other_annotations:
        name = study.candidates.path.name
        say(f"note: {study.truth.source} is not the file that {name} was made with")


def about_study(study: "Study") -> dict[str, Any]:
    """Return where the figures of this command come from."""
    from postnms.runs.provenance import provenance

    candidates = study.candidates
    return {
        **provenance(0, study.data, command_line()),
        "candidates": {"file": candidates.path.name, **candidates.provenance},
    }


def _table(rows: "Sequence[ComparedRow]") -> Table:
    from postnms.evaluation.metrics import FIGURES, show

    shown = FIGURES[:9]
    numbers = [Column(name, justify="right") for name in (*shown, "ms", "gain", "95 % interval")]
    first = Column("suppressor", no_wrap=True)
    table = Table(first, *numbers, box=None, padding=(0, 1, 0, 0))
    for row in rows:
        gain = "-" if row.gain is None else f"{row.gain:+.2f}"
        interval = "" if row.low is None else f"{row.low:+.2f} {row.high:+.2f}"
        figures = [show(row.figures[name]) for name in shown]
        table.add_row(visible(row.name), *figures, show(row.milliseconds, 2), gain, interval)
    return table
