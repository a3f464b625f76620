"""``postnms predict``: detect objects in a user's images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postnms.cli.console import progress_bar, say, stop_in_order
from postnms.cli.data import say_found
from postnms.cli.limits import limit_setting, say_cut
from postnms.cli.options import Data, Run
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.data.image_files import FoundImages
    from postnms.recipes import Recipe


def predict(
    run: Run,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder to write pictures and COCO results to.")
    ],
    inputs: Annotated[
        list[Path] | None, typer.Argument(help="Image files or folders of images.")
    ] = None,
    data: Data = None,
    split: Annotated[
        str | None, typer.Option(help="Split of --data; default: val. It replaces IMAGES.")
    ] = None,
    both: Annotated[
        bool, typer.Option("--both", help="Draw all rows side by side: plain NMS and the stage.")
    ] = False,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Detections that score less are not drawn.")
    ] = 0.3,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Larger images are left out; default: 200,000,000.")
    ] = None,
) -> None:
    """Detect objects in images, and write pictures and COCO results.

    The same command again skips the images that are done.
    """
    from postnms.data.image_files import MAX_PIXELS
    from postnms.distributed.processes import this_device
    from postnms.files.atomic import hash_of
    from postnms.inference.image_files import Drawing, predict_files
    from postnms.runs.folder import RunFolder, read_categories, read_recipe
    from postnms.runs.loading import load_detector

    source = RunFolder(run)
    recipe = read_recipe(source)
    found = _find(inputs or [], folder, recipe, data, split)
    paths = found.paths
    detector = load_detector(source, recipe, this_device())
    about = {
        "weights_sha256": hash_of(source.newest_weights),
        "recipe": recipe.model_dump(mode="json"),
    }
    with (
        stop_in_order("predict: stopped; what is done is kept, the same command goes on with it"),
        progress_bar("images", len(paths)) as done,
    ):
        predicted = predict_files(
            detector,
            recipe.detector.input_size,
            read_categories(source),
            paths,
            folder,
            Drawing(both, min_score),
            about,
            max_pixels=max_pixels or MAX_PIXELS,
            done=done,
        )
    if found.left_out:
        endings = [f"{ending or 'none'} {count}" for ending, count in found.left_out.most_common(5)]
        say(f"{found.left_out.total()} files with other endings left out: {', '.join(endings)}")
    unread = predicted.unread
    shown = ", ".join(f"{row} {count} detections" for row, count in predicted.detections.items())
    before = f" ({predicted.skipped} were done before)" if predicted.skipped else ""
    say(f"{len(paths) - len(unread)} pictures{before} and COCO results in {folder}: {shown}")
    limit = detector.network.max_detections
    remedy = f"the run's {limit_setting(recipe)} is the limit"
    say_cut(predicted.cut, len(paths) - len(unread), limit, remedy)
    if unread:
        raise UserError(f"{len(unread)} of {len(paths)} images left out: {'; '.join(unread[:3])}")


def _find(
    inputs: list[Path], folder: Path, recipe: "Recipe", data: Path | None, split: str | None
) -> "FoundImages":
    """Return the images that are named, or those of a split of a data folder."""
    from collections import Counter

    from postnms.data.image_files import FoundImages, find_images
    from postnms.data.splits import find_data

    if data is None:
        if split is not None or not inputs:
            raise UserError("expected images, or a data folder with --data and --split")
        return find_images(inputs, leave_out=folder)
    if inputs:
        raise UserError(f"expected images or --data, got both: {inputs[0]} and {data}")
    found = find_data(recipe.data, data, recipe.seed)
    paths = [record.path for record in found.read(split or "val").records]
    say_found(found)
    if not paths:
        raise UserError(f"{data}: split {split or 'val'}: expected at least one image, got none")
    return FoundImages(paths, Counter())
