"""The data that a verb works on, and the line that says what they are."""

from pathlib import Path
from typing import TYPE_CHECKING

from postnms.cli.console import say

if TYPE_CHECKING:
    from postnms.data.layouts import FoundData
    from postnms.data.loader import DetectionData
    from postnms.recipes import Recipe
    from postnms.runs.folder import RunFolder


def say_found(found: "FoundData | None") -> None:
    """Print what was found in a data folder. The first process does it for all."""
    from postnms.distributed.processes import this_process

    if found is not None and this_process().is_main_process:
        say(found.describe())


def open_named_split(
    run: "RunFolder", recipe: "Recipe", data: Path | None, split: str
) -> "tuple[DetectionData, Path | None]":
    """Open a split of the data that the user names, or of those of the run.

    Returns the split, with the labels of the run, and the data folder or None for the built-in
    scenes.
    """
    from postnms.data.splits import find_data, open_split
    from postnms.runs.folder import read_categories, read_data_folder

    data = read_data_folder(run) if data is None else data
    found = None if data is None else find_data(recipe.data, data, recipe.seed)
    size = recipe.detector.input_size
    opened = open_split(recipe.data, found, split, read_categories(run), size, recipe.seed)
    say_found(found)
    return opened, data
