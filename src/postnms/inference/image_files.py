"""A detector over a user's image files: a picture of each, and COCO results."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from postnms.config import Progress, no_progress
from postnms.data.dataset import Category
from postnms.data.image_files import MAX_PIXELS
from postnms.detectors import Detector
from postnms.detectors.output import ROW_TITLES
from postnms.drawing.boxes import picture_stem, save_picture, side_by_side
from postnms.errors import UserError
from postnms.evaluation.results import to_results
from postnms.files.atomic import write_json
from postnms.files.folders import own_folder
from postnms.inference.exports import ONLY_RESULTS, Exports
from postnms.inference.journal import CUT, MARKER, Journal
from postnms.inference.least_scores import MinScore, least_score
from postnms.inference.looking import Look, look_at
from postnms.inference.pictures import draw_detections
from postnms.inference.reading import ReadImage, read_files
from postnms.inference.whole_images import Rows, clusters_of_image


@dataclass(frozen=True)
class Drawing:
    """How the pictures are drawn."""

    both: bool = False
    """True: draw all rows side by side. False: draw the last row alone."""
    min_score: MinScore = 0.3
    """Detections that score less are not drawn. They are in the results."""
    suppressed: bool = False
    """Whether the boxes that NMS suppressed are drawn thin. They are not known with tiles."""


@dataclass(frozen=True)
class Predicted:
    """What a prediction job has written."""

    detections: dict[str, int]
    """Number of detections of each row, over all images of the folder."""
    unread: list[str]
    """A message for each image that could not be read, or whose picture could not be written."""
    skipped: int
    """Number of images that an earlier job had done."""
    cut: int
    """Number of images of the folder with more detections than the detector's limit. The results
    have the best of them."""


@dataclass(frozen=True)
class _Predictor:
    """A detector, the classes that it knows, and where and how its pictures are drawn."""

    detector: Detector
    look: Look
    categories: Sequence[Category]
    folder: Path
    drawing: Drawing

    def __call__(self, read: ReadImage, planned: Mapping[str, Any]) -> dict[str, Any]:
        """Detect objects in an image, draw them, and return the finished line of the journal.

        An image that cannot be read, or a picture that cannot be written, is listed. It does not
        end the work on the other images.
        """
        image = read.image
        if image is None:
            return {**planned, "error": read.error}
        cut: list[int] = []
        try:
            [rows] = look_at(self.detector, [image], self.look, cut=cut.append)
            self._draw(image, rows, self.folder / planned["picture"])
        except UserError as error:
            return {**planned, "error": str(error)}
        category_ids = [category.id for category in self.categories]
        results = {
            row: to_results(detections, [planned["id"]], torch.ones(1, 2), category_ids)
            for row, detections in rows.items()
        }
        size = {"height": image.height, "width": image.width}
        line = {**planned, **size, "stamp": read.stamp, "results": results}
        return {**line, CUT: True} if any(cut) else line

    def _draw(self, image: Image.Image, rows: Rows, path: Path) -> None:
        names = [category.name for category in self.categories]
        clusters = None
        if self.drawing.suppressed and self.look.tiling is None:
            clusters = clusters_of_image(self.detector, image, self.look.size)
        panels = [
            draw_detections(image, found, names, least_score(self.drawing.min_score, row), clusters)
            for row, found in rows.items()
        ]
        titles = [ROW_TITLES[row] for row in rows]
        save_picture(side_by_side(panels, titles) if self.drawing.both else panels[-1], path)


def predict_files(
    detector: Detector,
    look: Look,
    categories: Sequence[Category],
    paths: Sequence[Path],
    folder: Path,
    drawing: Drawing = Drawing(),
    about: Mapping[str, Any] | None = None,
    max_pixels: int = MAX_PIXELS,
    exports: Exports = ONLY_RESULTS,
    report: Callable[[Mapping[str, Any]], None] | None = None,
    done: Progress = no_progress,
    workers: int = 0,
) -> Predicted:
    """Write a picture of each image and the COCO results of every row.

    Each image is written down in a journal when it is done. Images that an earlier job in the
    folder has done are skipped, unless they have changed since. Results are merged from the journal
    at the end, also if an exception ends the work.

    Image ids count from 1 in the order of ``paths``. Images that a later job adds to the folder
    get the next ids. ``images.json`` says which id is which file, and which files could not be
    read. ``labels.json`` has the names of the classes.

    Args:
        detector: in evaluation mode.
        look: how it looks at the images.
        categories: the classes in the order of the labels.
        paths: the image files.
        folder: where pictures and results are written to. It is new, empty, or one of predictions.
        drawing: how the pictures are drawn.
        about: facts that identify the detector, which JSON can hold. If they differ from those of
            the earlier job in the folder, all images are done again.
        max_pixels: an image with more pixels is left out.
        exports: what is written beside the COCO results.
        report: called at the end with the finished line of each of the images, in the order of
            their ids. The line has ``results`` or an ``error``.
        done: called with the number of images that were skipped, and with 1 after every other one.
        workers: number of processes that read the images ahead. 0: this process reads them.

    Raises:
        UserError: the folder holds other files or is in use, a picture would overwrite an image, or
            the journal cannot be written.
    """
    settings = {**(about or {}), "both": drawing.both, "min_score": drawing.min_score}
    if drawing.suppressed:
        settings["suppressed"] = True
    if (tiling := look.tiling) is not None:
        settings["tiling"] = [tiling.tile, tiling.overlap, str(tiling.suppressor)]
    if look.class_agnostic is not None:
        settings["class_agnostic"] = look.class_agnostic
    images = {str(path): path for path in paths}
    predict = _Predictor(detector, look, categories, folder, drawing)
    unread = []
    skipped = 0
    with (
        own_folder(folder, "a folder of 'predict'", MARKER),
        Journal(folder, detector.row_names, settings) as journal,
    ):
        try:
            planned = _plan(images, folder, journal)
            left = [line for line in planned if not journal.is_done(images[line["file_name"]])]
            skipped = len(planned) - len(left)
            done(skipped)
            paths_left = [images[line["file_name"]] for line in left]
            read = read_files(paths_left, workers, max_pixels)
            for image, about_it in zip(read, left, strict=True):
                line = predict(image, about_it)
                unread += [line["error"]] if "error" in line else []
                journal.add(line)
                done(1)
        finally:
            counts = journal.merge()
        write_json(folder / "labels.json", _labels_of(categories))
        journal.remove_exports()
        exports.write(folder, detector.row_names, journal.finished, categories)
        if report is not None:
            for line in journal.finished(errors=True):
                if line["file_name"] in images:
                    report(line)
    return Predicted(counts, unread, skipped, journal.cut)


def _labels_of(categories: Sequence[Category]) -> list[dict[str, Any]]:
    return [
        {"label": label, "id": category.id, "name": category.name}
        for label, category in enumerate(categories)
    ]


def _plan(images: Mapping[str, Path], folder: Path, journal: Journal) -> list[dict[str, Any]]:
    """Return the lines with which the journal plans the images, by their names in their order.

    New images get the next ids. Their pictures are ``NAME.png``, and where images have the same
    name, the id is in front of it. Raises UserError if a picture would overwrite an image.
    """
    stems = Counter(path.stem.lower() for path in images.values())
    taken = journal.pictures
    lines = []
    for name, path in images.items():
        line = journal.line_of(path)
        if line is None:
            number = journal.next_id
            unique = stems[path.stem.lower()] == 1
            names = _picture_names(path, number, unique)
            picture = next(
                text for text in names if text.lower() not in taken and not (folder / text).exists()
            )
            taken.add(picture.lower())
            line = {"id": number, "file_name": name, "picture": picture}
            journal.add(line)
        lines.append({key: line[key] for key in ("id", "file_name", "picture")})
    inputs = {path.resolve() for path in images.values()}
    for line in lines:
        if (folder / line["picture"]).resolve() in inputs:
            raise UserError(
                f"{folder}: {line['picture']} would overwrite an input; name another folder",
                argument="out",
            )
    return lines


def _picture_names(path: Path, number: int, unique: bool) -> Iterator[str]:
    """Yield names for the picture of an image, the best first, without end.

    ``number`` is the id of the image. ``unique`` says that no other image has its name.
    """
    stem = picture_stem(path)
    if unique:
        yield f"{stem}.png"
    yield f"{number}_{stem}.png"
    for attempt in itertools.count(2):
        yield f"{number}_{stem}_{attempt}.png"
