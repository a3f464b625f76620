"""A trained run on images: pictures of both results, and COCO results of image files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from postnms.data.formats.coco import Category
from postnms.data.image_files import load_image
from postnms.data.loader import DetectionData
from postnms.data.transforms import resize
from postnms.detectors import Detector
from postnms.drawing.boxes import draw_boxes, side_by_side
from postnms.errors import UserError
from postnms.evaluation.metrics import Result, to_results
from postnms.files.atomic import atomic_path, write_json
from postnms.inference.evaluate import Results, row_names
from postnms.recipes import Recipe
from postnms.runs.loading import RunFolder, load_detector, read_categories, read_recipe

TITLES = {"nms": "NMS", "post_nms": "post-NMS", "post_nms_second_nms": "post-NMS, second NMS"}
DRAWN_SCORE = 0.3
"""Least score that is drawn unless told otherwise."""


def draw_split(detector: Detector, data: DetectionData, recipe: Recipe, folder: Path, most: int) -> list[Path]:
    """Truth and every row side by side for the first images of a split; returns the pictures."""
    categories, written = data.dataset.categories, []
    names = [category.name for category in categories]
    for record in data.dataset.records[:most]:
        image = record.load()
        rows = detect_image(detector, image, recipe, record.id, categories)
        panels = [draw_boxes(image, record.boxes.tolist(), record.labels.tolist(), names)]
        panels += [draw_results(image, found, categories, DRAWN_SCORE) for found in rows.values()]
        written.append(folder / f"{Path(record.path).stem}.png")
        _save(side_by_side(panels, ["truth", *(TITLES[row] for row in rows)]), written[-1])
    return written


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
        panels = {row: draw_results(image, found, categories, min_score) for row, found in rows.items()}
        shown = (
            side_by_side(list(panels.values()), [TITLES[row] for row in rows]) if both else list(panels.values())[-1]
        )
        _save(shown, picture)
        for row, found in rows.items():
            results[row] += found
        done(1)
    write_json(folder / "images.json", entries)
    for row, entries in results.items():
        write_json(folder / f"results_{row}.json", entries, indent=None)
    return {row: len(entries) for row, entries in results.items()}, unread


@torch.no_grad()
def detect_image(
    detector: Detector, image: Image.Image, recipe: Recipe, image_id: int, categories: Sequence[Category]
) -> dict[str, list[Result]]:
    """COCO results of every row for one RGB image, in its own pixels."""
    small = resize(image, recipe.detector.min_size, recipe.detector.max_size)
    device = next(detector.parameters()).device
    rows = detector([pil_to_tensor(small).to(device)]).rows
    scale = (image.width / small.width, image.height / small.height)
    ids = [category.id for category in categories]
    return {name: to_results(detections, [image_id], [scale], ids) for name, detections in rows.items()}


def draw_results(
    image: Image.Image, results: Sequence[Result], categories: Sequence[Category], min_score: float
) -> Image.Image:
    """COCO results of one image, drawn on it."""
    labels = {category.id: label for label, category in enumerate(categories)}
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (result["bbox"] for result in results)]
    return draw_boxes(
        image,
        boxes,
        [labels[result["category_id"]] for result in results],
        [category.name for category in categories],
        [result["score"] for result in results],
        min_score,
    )


def _picture_names(paths: Sequence[Path], folder: Path) -> list[Path]:
    """``NAME.png`` in the folder; where inputs share a name, all with the number of the image in front."""
    unique = len({path.stem.lower() for path in paths}) == len(paths)
    names = [path.stem if unique else f"{i}_{path.stem}" for i, path in enumerate(paths, 1)]
    inputs = {path.resolve() for path in paths}
    pictures = [folder / f"{name}.png" for name in names]
    for picture in pictures:
        if picture.resolve() in inputs:
            raise UserError(f"--out {folder}: {picture.name} would overwrite an input; name another folder")
    return pictures


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
