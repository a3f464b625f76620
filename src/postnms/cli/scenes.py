"""``postnms scenes``: write the built-in data set."""

from pathlib import Path
from typing import Annotated

import typer

from postnms.cli.console import progress_bar, say


def scenes(
    folder: Annotated[
        Path, typer.Option("--out", help="Folder to write images and annotations to.")
    ],
    train: Annotated[
        int | None, typer.Option(min=0, help="Number of images of the train split.")
    ] = None,
    val: Annotated[
        int | None, typer.Option(min=0, help="Number of images of the val split.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=32, help="Side of the images in pixels.")] = None,
    crowding: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Probability that the next objects form a clump."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes.")] = 0,
) -> None:
    """Write the built-in crowded scenes as images and COCO annotations."""
    from postnms.data.scenes.generator import ScenesConfig, write_scenes

    options = {"train": train, "val": val, "size": size, "crowding": crowding}
    given = {name: value for name, value in options.items() if value is not None}
    config = ScenesConfig.parse(given, "scenes")
    with progress_bar("scenes", config.train + config.val) as done:
        counts = write_scenes(config, seed, folder, done)
    splits = [
        f"{split} {getattr(config, split)} images, {count} objects"
        for split, count in counts.items()
    ]
    say(f"{folder}: {', '.join(splits)}")
