"""``postnms dump`` and ``postnms import-candidates``: two ways to a file of candidates."""

from pathlib import Path
from typing import Annotated

import typer

from postnms.cli.console import command_line, progress_bar, say
from postnms.cli.options import CandidatesOut, Changes, Data, Run
from postnms.errors import UserError


def dump(
    run: Run,
    file: CandidatesOut,
    data: Data = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Candidates score more than this; default: the detector's own."
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(
            "--max-candidates",
            min=1,
            help="Largest number of candidates per image, by score; default: all.",
        ),
    ] = None,
    changes: Changes = None,
) -> None:
    """Write the candidates of a run on the val split to a file, before suppression."""
    from postnms.candidate_files.dump import dump_candidates
    from postnms.candidate_files.writer import CandidateWriter
    from postnms.data.splits import open_val
    from postnms.detectors import Selection
    from postnms.distributed.processes import this_device, this_process
    from postnms.files.atomic import hash_of
    from postnms.recipes import override, parse_changes
    from postnms.runs.folder import RunFolder, read_categories, read_data_folder, read_recipe
    from postnms.runs.loading import load_detector
    from postnms.runs.provenance import provenance

    _check_output(file)
    if this_process().num_processes > 1:
        raise UserError("dump: expected one process, got several; a split is written in one piece")
    folder = RunFolder(run)
    recipe = override(read_recipe(folder), parse_changes(changes or []))
    data = read_data_folder(folder) if data is None else data
    split = open_val(
        recipe.data, data, read_categories(folder), recipe.detector.input_size, recipe.seed
    )
    detector = load_detector(folder, recipe, this_device())
    about = {
        **provenance(recipe.seed, data, command_line()),
        "recipe": recipe.model_dump(mode="json"),
        "weights_sha256": hash_of(folder.newest_weights),
    }
    annotations = None
    if data is not None:
        annotations = recipe.data.val_annotations
        about["annotations_sha256"] = hash_of(data / annotations)
    selection = Selection(most=most, score_threshold=score_threshold)
    with (
        CandidateWriter(file, split.dataset.categories, annotations, about) as writer,
        progress_bar("images", len(split)) as done,
    ):
        count = dump_candidates(
            detector, split, writer, recipe.evaluation.batch_size, selection, done
        )
    say(f"{count} candidates of {len(split)} images in {file}")


def import_candidates(
    results: Annotated[
        Path, typer.Argument(help="COCO results of boxes before suppression: JSON, plain or gzip.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Annotation file of the images, or the folder with its instances_val.json."
        ),
    ],
    file: CandidatesOut,
) -> None:
    """Write the boxes of another detector, before suppression, as a file of candidates."""
    from postnms.candidate_files.coco_import import import_results
    from postnms.data.formats.coco import open_annotations
    from postnms.files.atomic import hash_of
    from postnms.runs.provenance import provenance

    _check_output(file)
    truth = open_annotations(data)
    annotations = Path(truth.source)
    if not results.is_file():
        raise UserError(f"{results}: no such file")
    about = {
        **provenance(0, data, command_line()),
        "results": results.name,
        "results_sha256": hash_of(results),
        "annotations_sha256": hash_of(annotations),
    }
    with progress_bar("images", len(truth.images)) as done:
        images, count = import_results(results, truth, annotations.name, file, about, done)
    say(f"{count} candidates of {images} images in {file}")


def _check_output(file: Path) -> None:
    """Refuse to replace what is no file of candidates: an input, or the weights of a run."""
    from postnms.candidate_files.reader import open_candidates

    if not file.exists():
        return
    try:
        open_candidates(file)
    except UserError as error:
        raise UserError(
            f"{file}: is there and is no file of candidates; name another", argument="out"
        ) from error
