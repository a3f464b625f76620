"""The name under which a run keeps what was measured on a split of some data."""

from pathlib import Path

from postnms.data.dataset import Truth
from postnms.data.digest import annotations_hash
from postnms.runs.folder import RunFolder, read_data_folder, read_val_hash


def measured_name(folder: RunFolder, split: str, data: Path | None, truth: Truth) -> str:
    """Return the name that the files of a run have for the figures and results on a split.

    It is that of the split for the data that the run was trained on, for example ``val``. Other
    data come before it, for example ``night.val`` for those in a folder ``night``: their figures
    must not replace those of the run, which are compared with other runs and whose score threshold
    is used to predict.

    Args:
        folder: the run.
        split: name of the split.
        data: the data folder or file. None: the built-in scenes.
        truth: the annotations of the split. By them a val split is known that has moved, or that
            the run was given in memory.

    Raises:
        UserError: the provenance of the run is missing or has another form.
    """
    if data is None:
        return split
    own = read_data_folder(folder)
    is_own = own is not None and data.resolve() == own.resolve()
    if is_own or (split == "val" and annotations_hash(truth) == read_val_hash(folder)):
        return split
    # A folder of Linux may have a backslash in its name, which would be a folder of Windows.
    name = data.resolve().name.replace("\\", "_")
    return f"{name}.{split}"
