"""``postnms rescore``: a file of candidates with one more row, that of a trained rescorer."""

from pathlib import Path
from typing import Annotated

import typer

from postnms.cli.compare import say_other_annotations
from postnms.cli.console import command_line, progress_bar, say
from postnms.cli.options import Annotations, AnySplit, Candidates, CandidatesOut
from postnms.cli.outputs import check_replaces


def rescore(
    rescorer: Annotated[
        Path, typer.Argument(metavar="RESCORER", help="File that 'train-rescorer' has written.")
    ],
    file: Candidates,
    out: CandidatesOut,
    data: Annotations = None,
    split: AnySplit = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the new row; default: the kind of the rescorer.")
    ] = None,
) -> None:
    """Write candidates again with one more row: their detections with learned scores.

    'postnms compare' then shows the row beside all suppressors. The sizes of the images come from
    --data.
    """
    from postnms.analysis.study import Study
    from postnms.candidate_files import open_candidates, open_images
    from postnms.files.atomic import hash_of
    from postnms.rescoring import load_rescorer
    from postnms.rescoring import rescore as write_rescored
    from postnms.runs.provenance import provenance

    check_replaces(out, open_candidates, "file of candidates")
    trained = load_rescorer(rescorer)
    candidates = open_candidates(file)
    study = Study(candidates, open_images(candidates, data, split), data)
    say_other_annotations(study)
    _say_trained_on(trained.provenance.get("candidates"), candidates.provenance)
    about = {"rescorer": rescorer.name, "rescorer_sha256": hash_of(rescorer)}
    seed = trained.provenance.get("seed", 0)
    facts = {**about, **provenance(seed if type(seed) is int else 0, data, command_line())}
    with progress_bar("images", len(candidates)) as done:
        spent = write_rescored(
            trained, candidates, study.truth, out, name=name, provenance=facts, done=done
        )
    say(f"row {name or trained.kind}: {spent:.2f} ms an image; in {out}")


def _say_trained_on(trained: object, facts: dict[str, object]) -> None:
    """Say so if the rescorer was trained on these images, or on the candidates of another detector.

    ``trained`` and ``facts`` are about the candidates of the training and about those at hand.
    """
    own = trained if isinstance(trained, dict) else {}
    for fact, noted_if_equal, note in (
        ("annotations_sha256", True, "on these images: their figures are too good"),
        ("weights_sha256", False, "on the candidates of another detector"),
    ):
        there, here = own.get(fact), facts.get(fact)
        if None not in (there, here) and (there == here) == noted_if_equal:
            say(f"note: the rescorer was trained {note}")
