"""A file of candidates with one more row: the detections of a rescorer."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from postnms.candidate_files.columns import is_name
from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.writer import CandidateWriter
from postnms.config import Progress, no_progress
from postnms.data.dataset import Truth
from postnms.errors import UserError, shown
from postnms.rescoring.image_sizes import image_sizes
from postnms.rescoring.rescorer import Rescorer

IMAGES_AT_ONCE = 32
"""Number of images whose candidates, with their features, are in memory together."""


def rescore(
    rescorer: Rescorer,
    file: CandidateFile,
    truth: Truth,
    out: Path,
    *,
    name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    done: Progress = no_progress,
) -> float:
    """Write a file of candidates again, with one more row of detections.

    The new file has all columns, rows and facts of the old one. Its provenance has one more entry
    in the list ``rescored``. ``postnms compare`` shows the row beside all suppressors.

    Args:
        rescorer: the rescorer.
        file: the candidates.
        truth: the images of the file and their sizes, see
            :func:`postnms.candidate_files.open_images`. Objects are not looked at.
        out: the file to write. It may be that of the candidates, which is then replaced.
        name: name of the row. None: the kind of the rescorer.
        provenance: further facts about this call for the list, which JSON can hold.
        done: called after every few images with their number.

    Returns:
        The mean time of the rescorer for an image in milliseconds, without the first call's one-off
        costs.

    Raises:
        UserError: the file has other classes than the rescorer, lacks its columns, or has a row of
            that name; or an image has no size. The message names the file. Nothing is written.
    """
    row = rescorer.kind if name is None else name
    if not is_name(row):
        raise UserError(f"expected a short, printable name, got {shown(row)}", argument="name")
    if row in file.rows:
        raise UserError(
            f"{file.path} has a row {shown(row)} already; give the new row another one",
            argument="name",
        )
    rescorer.check_fits(file)
    sizes = image_sizes(truth, file.image_ids)
    config = rescorer.config.model_dump(mode="json")
    learned_from = rescorer.provenance.get("candidates")
    entry = {"row": row, "kind": rescorer.kind, "config": config, "learned_from": learned_from}
    entry |= provenance or {}
    before = file.provenance.get("rescored")
    about = {
        **file.provenance,
        "rescored": [*(before if isinstance(before, list) else []), entry],
    }
    total = 0.0
    with CandidateWriter(out, file.categories, file.annotations, about) as writer:
        for start in range(0, max(len(file), 1), IMAGES_AT_ONCE):
            stop = min(start + IMAGES_AT_ONCE, len(file))
            candidates, rows = file.part(start, stop)
            try:
                if not start:
                    rescorer(candidates, sizes[start:stop])  # compiles the kernels
                begin = time.perf_counter()
                rows[row] = rescorer(candidates, sizes[start:stop])
                spent = 1000 * (time.perf_counter() - begin)
            except ValueError as error:
                raise UserError(f"{file.path}: {error}") from error
            total += spent
            count = stop - start
            # The writer adds the times of all images up and divides them by the number of images.
            times = {other: mean * count for other, mean in file.milliseconds.items()}
            writer.add(candidates, file.image_ids[start:stop], rows, {**times, row: spent})
            done(count)
    return total / max(len(file), 1)
