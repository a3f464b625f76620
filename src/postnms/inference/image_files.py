"""A detector over a user's image files: a picture of each, and COCO results."""

from collections.abc import Sequence
from pathlib import Path

from postnms.config import Progress, no_progress
from postnms.data.dataset import Category
from postnms.data.image_files import load_image
from postnms.data.transforms import InputSize
from postnms.detectors import Detector
from postnms.detectors.detector import ROW_TITLES
from postnms.drawing.boxes import save_picture, side_by_side
from postnms.errors import UserError
from postnms.evaluation.results import Results, to_results
from postnms.files.atomic import write_json
from postnms.files.folders import check_own_folder
from postnms.inference.pictures import detect_image, draw_detections

LISTED = "images.json"
"""Name of the file that lists the images, their ids, and those that could not be read."""


def predict_files(
    detector: Detector,
    size: InputSize,
    categories: Sequence[Category],
    paths: Sequence[Path],
    folder: Path,
    *,
    both: bool,
    min_score: float,
    done: Progress = no_progress,
) -> tuple[dict[str, int], list[str]]:
    """Write a picture of each image and the COCO results of every row.

    Image ids count from 1 in the order of ``paths``. ``images.json`` says which id is which file,
    and which files could not be read.

    Args:
        detector: in evaluation mode.
        size: how images are resized for the detector.
        categories: the classes in the order of the labels.
        paths: the image files.
        folder: where pictures and results are written to.
        both: draw all rows side by side. False: draw the last row alone.
        min_score: detections that score less are not drawn. They are in the results.
        done: called after every image.

    Returns:
        The number of detections of each row.
        A message for each image that could not be read, or whose picture could not be written.
    """
    pictures = _picture_names(paths, folder)
    check_own_folder(folder, LISTED, "a folder of 'predict'")
    names = [category.name for category in categories]
    category_ids = [category.id for category in categories]
    results: Results = {row: [] for row in detector.row_names}
    unread = []
    entries = [{"id": number, "file_name": str(path)} for number, path in enumerate(paths, 1)]
    # The list marks the folder as written by this function, so it comes first.
    write_json(folder / LISTED, entries)
    for entry, path, picture in zip(entries, paths, pictures, strict=True):
        # An image that cannot be read, or a picture that cannot be written, is listed. It does not
        # end the work on the other images.
        try:
            image = load_image(path)
            rows, to_original = detect_image(detector, image, size)
            panels = [
                draw_detections(image, row, to_original, names, min_score) for row in rows.values()
            ]
            shown = side_by_side(panels, [ROW_TITLES[row] for row in rows]) if both else panels[-1]
            save_picture(shown, picture)
        except UserError as error:
            unread.append(str(error))
            entry["error"] = str(error)
        else:
            for row, detections in rows.items():
                results[row] += to_results(detections, [entry["id"]], to_original, category_ids)
        done(1)
    write_json(folder / LISTED, entries)
    for row, found in results.items():
        write_json(folder / f"results_{row}.json", found, indent=None)
    return {row: len(found) for row, found in results.items()}, unread


def _picture_names(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Return the path of the picture of each image: ``NAME.png`` in the folder.

    Where two images have the same name, every picture has the number of its image in front.
    Raises UserError if a picture would overwrite an image.
    """
    is_unique = len({path.stem.lower() for path in paths}) == len(paths)
    names = [path.stem if is_unique else f"{i}_{path.stem}" for i, path in enumerate(paths, 1)]
    inputs = {path.resolve() for path in paths}
    pictures = [folder / f"{name}.png" for name in names]
    for picture in pictures:
        if picture.resolve() in inputs:
            raise UserError(
                f"{folder}: {picture.name} would overwrite an input; name another folder",
                argument="out",
            )
    return pictures
