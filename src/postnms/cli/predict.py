"""``postnms predict``: detect objects in a user's images."""

from pathlib import Path
from typing import Annotated

import typer

from postnms.cli.console import progress_bar, say, stop_in_order
from postnms.cli.limits import limit_setting, say_cut
from postnms.cli.options import Run
from postnms.errors import UserError


def predict(
    run: Run,
    inputs: Annotated[list[Path], typer.Argument(help="Image files or folders of images.")],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder to write pictures and COCO results to.")
    ],
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
    from postnms.data.image_files import MAX_PIXELS, find_images
    from postnms.distributed.processes import this_device
    from postnms.files.atomic import hash_of
    from postnms.inference.image_files import Drawing, predict_files
    from postnms.runs.folder import RunFolder, read_categories, read_recipe
    from postnms.runs.loading import load_detector

    found = find_images(list(inputs), leave_out=folder)
    paths = found.paths
    source = RunFolder(run)
    recipe = read_recipe(source)
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
