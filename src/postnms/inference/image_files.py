"""A trained run on images: pictures of both results, and COCO results of image files."""

from collections.abc import Callable, Sequence
from pathlib import Path

from postnms.data.image_files import load_image
from postnms.detectors.detector import row_names
from postnms.drawing.boxes import side_by_side
from postnms.errors import UserError
from postnms.evaluation.results import Results
from postnms.files.atomic import write_json
from postnms.inference.pictures import TITLES, _save, detect_image, draw_results
from postnms.runs.folder import RunFolder, read_categories, read_recipe
from postnms.runs.loading import load_detector


def predict_files(
    run: RunFolder,
    paths: Sequence[Path],
    folder: Path,
    *,
    both: bool,
    min_score: float,
    done: Callable[[int], None] = lambda images: None,
) -> tuple[dict[str, int], list[str]]:
    """Write a picture of each image and the COCO results of every row.

    A picture shows the best row (with ``both``: all rows side by side). ``done`` is called after every image.
    Image ids count from 1 in the order of ``paths``; ``images.json`` says which is which, and what could not be read.
    Returns the detections of each row, and of each image that could not be read why.
    """
    pictures = _picture_names(paths, folder)
    recipe, categories, detector = read_recipe(run), read_categories(run), load_detector(run)
    results: Results = {row: [] for row in row_names(detector)}
    unread = []
    entries = [{"id": number, "file_name": str(path)} for number, path in enumerate(paths, 1)]
    for number, (path, picture) in enumerate(zip(paths, pictures, strict=True), 1):
        try:
            image = load_image(path)
        except UserError as error:
            unread.append(str(error))
            entries[number - 1]["error"] = str(error)
            done(1)
            continue
        rows = detect_image(detector, image, recipe, number, categories)
        panels = {
            row: draw_results(image, found, categories, min_score) for row, found in rows.items()
        }
        shown = (
            side_by_side(list(panels.values()), [TITLES[row] for row in rows])
            if both
            else list(panels.values())[-1]
        )
        _save(shown, picture)
        for row, found in rows.items():
            results[row] += found
        done(1)
    write_json(folder / "images.json", entries)
    for row, entries in results.items():
        write_json(folder / f"results_{row}.json", entries, indent=None)
    return {row: len(entries) for row, entries in results.items()}, unread


def _picture_names(paths: Sequence[Path], folder: Path) -> list[Path]:
    """``NAME.png`` in the folder; where inputs share a name, all with the number of the image in front."""
    unique = len({path.stem.lower() for path in paths}) == len(paths)
    names = [path.stem if unique else f"{i}_{path.stem}" for i, path in enumerate(paths, 1)]
    inputs = {path.resolve() for path in paths}
    pictures = [folder / f"{name}.png" for name in names]
    for picture in pictures:
        if picture.resolve() in inputs:
            raise UserError(
                f"--out {folder}: {picture.name} would overwrite an input; name another folder"
            )
    return pictures
