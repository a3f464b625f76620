"""The name under which a run keeps what was measured on a split of some data."""

from collections.abc import Iterator
from pathlib import Path

from postnms.data.dataset import Truth
from postnms.data.digest import annotations_hash
from postnms.runs.folder import (
    RunFolder,
    read_data_folder,
    read_other_splits,
    read_val_hash,
)


def measured_name(folder: RunFolder, split: str, data: Path | None, truth: Truth) -> str:
    """Return the name that the files of a run have for the figures and results on a split.

    It is that of the split for the data that the run was trained on, for example ``val``. Other
    data come before it, for example ``night.val`` for those in a folder ``night``: their figures
    must not replace those of the run, which are compared with other runs and whose score threshold
    is used to predict. Where another folder of this name was measured before, the folder around it
    comes in front, for example ``north_night.val``.

    Args:
        folder: the run.
        split: name of the split.
        data: the data folder or file. None: the built-in scenes.
        truth: the annotations of the split. By them a val split is known that has moved, or that
            the run was given in memory.

    Raises:
        UserError: the provenance of the run is missing or has another form, or so has its list of
            what was measured.
    """
    if data is None:
        return split
    own = read_data_folder(folder)
    is_own = own is not None and data.resolve() == own.resolve()
    if is_own or (split == "val" and annotations_hash(truth) == read_val_hash(folder)):
        return split
    where = data.resolve()
    before = read_other_splits(folder)
    names = [f"{name}.{split}" for name in _longer_names(where)]
    # What an earlier version has measured has no folder in the list, and counts as that of any.
    free = (name for name in names if before.get(name) in (None, str(where)))
    return next(free, names[-1])


def _longer_names(folder: Path) -> Iterator[str]:
    """Yield the last part of a path, then the last two parts, and so on."""
    # A folder of Linux may have a backslash in its name, which would be a folder of Windows.
    parts = [part.replace("\\", "_") for part in folder.relative_to(folder.anchor).parts]
    for count in range(1, len(parts) + 1):
        yield "_".join(parts[-count:])
