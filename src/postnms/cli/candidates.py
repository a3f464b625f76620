"""``postnms dump`` and ``postnms import-candidates``: two ways to a file of candidates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postnms.cli.console import command_line, progress_bar, say
from postnms.cli.data import open_named_split
from postnms.cli.options import CandidatesOut, Data, Run, RunChanges, Split
from postnms.cli.outputs import check_replaces
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.data.dataset import Truth


def dump(
    run: Run,
    file: CandidatesOut,
    data: Data = None,
    split: Split = "val",
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
    features: Annotated[
        bool,
        typer.Option(
            "--features",
            help="Also write the features of the box head of each candidate (column box_features), "
            "about 4 kB a candidate; two-stage detectors have them.",
        ),
    ] = False,
    changes: RunChanges = None,
) -> None:
    """Write the candidates of a run on a split to a file, before suppression."""
    from postnms.candidate_files.dump import dump_candidates
    from postnms.candidate_files.reader import open_candidates
    from postnms.candidate_files.writer import CandidateWriter
    from postnms.data.digest import annotations_hash
    from postnms.data.layouts import canonical
    from postnms.detectors import Selection
    from postnms.distributed.processes import this_device, this_process
    from postnms.files.atomic import hash_of
    from postnms.recipes import override_trained, parse_changes
    from postnms.runs.folder import RunFolder, read_recipe
    from postnms.runs.loading import load_detector
    from postnms.runs.provenance import provenance

    check_replaces(file, open_candidates, "file of candidates")
    if this_process().num_processes > 1:
        raise UserError("dump: expected one process, got several; a split is written in one piece")
    folder = RunFolder(run)
    recipe = override_trained(read_recipe(folder), parse_changes(changes or []))
    opened, data = open_named_split(folder, recipe, data, split)
    detector = load_detector(folder, recipe, this_device())
    about = {
        **provenance(recipe.seed, data, command_line()),
        "recipe": recipe.model_dump(mode="json"),
        "split": canonical(split),
        "weights_sha256": hash_of(folder.newest_weights),
        "nms_threshold": detector.network.nms_threshold,
        "max_detections": detector.network.max_detections,
        "annotations_sha256": annotations_hash(opened.dataset.truth),
    }
    annotations = None if data is None else _name_of_annotations(opened.dataset.truth, data)
    selection = Selection(most=most, score_threshold=score_threshold, features=features)
    with (
        CandidateWriter(file, opened.dataset.categories, annotations, about) as writer,
        progress_bar("images", len(opened)) as done,
    ):
        count = dump_candidates(
            detector, opened, writer, recipe.evaluation.batch_size, selection, done
        )
    say(f"{count} candidates of {len(opened)} images in {file}")


def _name_of_annotations(truth: "Truth", data: Path) -> str:
    """Return the name of annotations within a data folder or ``data.yaml``."""
    from postnms.data.formats.annotated import name_of

    return name_of(Path(truth.source), data.parent if data.is_file() else data)


def import_candidates(
    results: Annotated[
        Path, typer.Argument(help="COCO results of boxes before suppression: JSON, plain or gzip.")
    ],
    data: Annotated[
        Path,
        typer.Option(help="COCO annotation file of the images, data folder, or data.yaml."),
    ],
    file: CandidatesOut,
    split: Annotated[
        str | None, typer.Option(help="Split of the data folder; default: val.")
    ] = None,
) -> None:
    """Write the boxes of another detector, before suppression, as a file of candidates."""
    from postnms.candidate_files.coco_import import import_results
    from postnms.candidate_files.reader import open_candidates
    from postnms.data.digest import annotations_hash
    from postnms.data.layouts import canonical
    from postnms.data.splits import find_truth, has_splits
    from postnms.files.atomic import hash_of
    from postnms.runs.provenance import provenance

    check_replaces(file, open_candidates, "file of candidates")
    truth = find_truth(data, split)
    annotations = Path(truth.source)
    if not results.is_file():
        raise UserError(f"{results}: no such file")
    about = {
        **provenance(0, data, command_line()),
        "results": results.name,
        "results_sha256": hash_of(results),
        "annotations_sha256": annotations_hash(truth),
    }
    if has_splits(data):
        about["split"] = canonical(split or "val")
    with progress_bar("images", len(truth.images)) as done:
        images, count = import_results(results, truth, annotations.name, file, about, done)
    say(f"{count} candidates of {images} images in {file}")
