"""Folders that this library writes to, told apart from folders of the user."""

from pathlib import Path

from postnms.errors import UserError


def check_own_folder(folder: Path, marker: str, description: str) -> None:
    """Raise UserError unless a folder is new, empty, or was written by this library.

    ``marker`` is the name of the file that this library writes into such a folder before all
    others. ``description`` says in the message what the folder would have to be, for example "a
    run". The files of the user in any other folder could be overwritten or taken for results.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).is_file():
        raise UserError(
            f"{folder}: holds files, and is not {description} (no {marker}); "
            f"name a new or an empty folder",
            argument="out",
        )
