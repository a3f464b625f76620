"""``postnms predict``: detect objects in a user's images."""

from pathlib import Path
from typing import Annotated

import typer

from postnms.cli.console import progress_bar, say
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
) -> None:
    """Detect objects in images, and write pictures and COCO results."""
    from postnms.data.image_files import find_images
    from postnms.distributed.processes import this_device
    from postnms.inference.image_files import predict_files
    from postnms.runs.folder import RunFolder, read_categories, read_recipe
    from postnms.runs.loading import load_detector

    paths = find_images(list(inputs), leave_out=folder)
    source = RunFolder(run)
    recipe = read_recipe(source)
    with progress_bar("images", len(paths)) as done:
        counts, unread = predict_files(
            load_detector(source, recipe, this_device()),
            recipe.detector.input_size,
            read_categories(source),
            paths,
            folder,
            both=both,
            min_score=min_score,
            done=done,
        )
    shown = ", ".join(f"{row} {count} detections" for row, count in counts.items())
    say(f"{len(paths) - len(unread)} pictures and COCO results in {folder}: {shown}")
    if unread:
        raise UserError(f"{len(unread)} of {len(paths)} images left out: {'; '.join(unread[:3])}")
