"""``postnms train-rescorer``: learn to re-score the candidates of the training split."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from postnms.cli.compare import open_named_study
from postnms.cli.console import command_line, progress_bar, say
from postnms.cli.options import Annotations, AnySplit, Candidates
from postnms.cli.outputs import check_replaces

Kind = Literal["sce", "contextual", "relation"]
TRAINING = ("train", "tuning")
"""Names of the splits that a rescorer may be trained on without a word."""


def train_rescorer(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="'contextual': boxes, scores and classes of any detector. 'sce' and 'relation': "
            "also the features of 'dump --features'."
        ),
    ],
    file: Candidates,
    out: Annotated[
        Path, typer.Option("--out", help="File of the rescorer to write (.safetensors).")
    ],
    data: Annotations = None,
    split: AnySplit = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting of the rescorer, for example epochs=20; repeatable."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**32 - 1, help="Decides the first weights and the order of the images."
        ),
    ] = 0,
) -> None:
    """Train a network that re-scores candidates, on a dump of the training split.

    Dump it with 'postnms dump RUN --split train'. 'postnms rescore' applies the rescorer.
    """
    from postnms.rescoring import load_rescorer, rescorer_config
    from postnms.rescoring import train_rescorer as train
    from postnms.runs.provenance import provenance

    config = rescorer_config(kind, changes or [])
    check_replaces(out, load_rescorer, "rescorer")
    study = open_named_study(file, data, split)
    named = study.candidates.provenance.get("split")
    if named is not None and named not in TRAINING:
        say(
            f"note: {file.name} is of the split {named}: train on one of 'train', since figures of "
            "images that a rescorer was trained on are too good"
        )
    about = provenance(seed, data, command_line())
    with progress_bar("images", config.passes * len(study.candidates)) as done:
        trained = train(
            study.candidates, study.truth, config, seed=seed, provenance=about, done=done
        )
    trained.save(out)
    figures = trained.provenance["last_epoch"]
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
    say(f"{kind} rescorer, trained on {len(study.candidates)} images, in {out}")
    say(f"last epoch: {shown}")
