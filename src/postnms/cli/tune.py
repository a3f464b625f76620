"""``postnms tune-fusion``: the weights of the scores of the stage that give the highest AP."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from postnms.cli.compare import about_study, open_named_study
from postnms.cli.console import command_line, print_wide, progress_bar, say
from postnms.cli.options import Annotations, AnySplit, Candidates
from postnms.cli.suppressors import read_choices

if TYPE_CHECKING:
    from postnms.analysis.tuning import Tuned

SHOWN = 3
"""Number of weights of each row that are shown."""


def tune_fusion(
    file: Candidates,
    data: Annotations = None,
    split: AnySplit = None,
    suppressor: Annotated[
        str,
        typer.Option(help="Suppressors on the boxes of the stage, separated by commas."),
    ] = "nms,soft_nms_linear,soft_nms_gaussian,cluster_nms_all",
    steps: Annotated[
        int, typer.Option(min=1, help="Weights are multiples of one part in so many.")
    ] = 10,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write tune_fusion.json to; default: nothing."),
    ] = None,
) -> None:
    """Choose the weights of the stage's scores on candidates of images set aside for that.

    Train with --set data.tuning_fraction=0.2, then 'postnms dump RUN --split tuning'.
    """
    from postnms.analysis.reports import MARKERS, write_tuning
    from postnms.analysis.tuning import count_tries
    from postnms.analysis.tuning import tune_fusion as tune
    from postnms.files.folders import own_folder

    study = open_named_study(file, data, split)
    choices = read_choices(suppressor, study.candidates)
    with contextlib.ExitStack() as stack:
        if folder is not None:
            owned = own_folder(folder, "a folder of reports", *MARKERS, command=command_line())
            stack.enter_context(owned)
        with progress_bar("weights", count_tries(choices, steps)) as done:
            rows = tune(study, choices, steps=steps, done=done)
        print_wide(_table(rows))
        best = max(rows, key=lambda row: row.rank)
        say(f"highest: {best.row}; evaluate or train with it: {_settings(best)}")
        if study.candidates.provenance.get("split") in ("val", "test"):
            say(
                "note: figures of the split that weights were chosen on are too good; "
                "data.tuning_fraction sets training images aside to choose on"
            )
        if folder is not None:
            say(f"{write_tuning(rows, about_study(study), folder)} in {folder}")


def _table(rows: "list[Tuned]") -> Table:
    from postnms.evaluation.metrics import show

    columns = [Column("weights"), *(Column(name, justify="right") for name in ("AP", "gain"))]
    table = Table(Column("row", no_wrap=True), *columns, box=None, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(row.row, "of the run", show(row.before, 2), "")
        for fusion, precision in row.tried[:SHOWN]:
            gain = "-"
            if precision is not None and row.before is not None:
                gain = f"{precision - row.before:+.2f}"
            table.add_row("", str(fusion), show(precision, 2), gain)
    return table


def _settings(row: "Tuned") -> str:
    """Return the options that give a run these weights."""
    fusion = row.best
    texts = [
        f"'stage.fusion={json.dumps(list(fusion.weights))}'",
        f"stage.fusion_mean={fusion.mean}",
    ]
    if row.choice is not None:
        texts.append(f"stage.suppressor={row.choice.name}")
    return " ".join(f"--set {text}" for text in texts)
