"""``postnms predict model.onnx``: detect objects with an exported model, without torch."""

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from postnms.cli.console import progress_bar, say, stop_in_order
from postnms.cli.prediction_job import json_lines_to, refuse_unread
from postnms.data.image_files import MAX_PIXELS, find_images, load_image
from postnms.drawing.boxes import draw_boxes, picture_stem, save_picture
from postnms.errors import UserError
from postnms.files.atomic import write_json
from postnms.inference.exports import json_line

if TYPE_CHECKING:
    from postnms.export.onnx_model import OnnxModel

AUTO = "auto"
"""In place of a least score: that with the best F1 of the row, from the model's metadata."""
TAKEN = (
    "{} is an exported model, which takes images, --out, --json, --row, --min-score and "
    "--max-pixels alone; name the run's folder"
)
"""Why an option is refused, with the place of the model's path."""


def refuse_program(path: Path) -> None:
    """Raise UserError for a program of ``torch.export``, which has no verb of its own."""
    if path.suffix == ".pt2" and path.is_file():
        raise UserError(
            f"{path}: expected a run folder or a model.onnx, got a program of torch.export; "
            "export it with --format onnx, or load it with torch.export.load"
        )


def predict_onnx(
    path: Path,
    inputs: list[Path],
    folder: Path | None,
    json_to: str | None,
    row: str | None,
    min_score: float | str,
    max_pixels: int | None,
) -> None:
    """Write a picture of each image and COCO results of every row into a new folder, or JSON.

    The results are those of the images that are done, also if a signal or an error ends the work.
    Raises UserError if images cannot be read, or pictures not be written, after the others are
    done.
    """
    from postnms.export.onnx_model import OnnxModel

    if not inputs:
        raise UserError(f"{path}: expected images to look at")
    if folder is None and json_to is None:
        raise UserError("name a folder for pictures and results, or pass --json -", argument="out")
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: expected a new or an empty folder", argument="out")
    model = OnnxModel(path)
    chosen = model.chosen_row(row)
    least = _least_score(model, chosen, min_score, path)
    paths = find_images(inputs, leave_out=folder).paths
    job = _Job(model, chosen, least, max_pixels or MAX_PIXELS, folder)
    with (
        stop_in_order("predict: stopped; the results are those of the images that are done"),
        json_lines_to(json_to) as stream,
        progress_bar("images", len(paths)) as done,
    ):
        try:
            for number, image in enumerate(paths, 1):
                job.look_at(image, number, stream)
                done(1)
        finally:
            job.finish()
    if folder is not None and json_to != "-":
        say(f"{len(paths) - len(job.unread)} pictures and COCO results in {folder}")
    refuse_unread(job.unread, len(paths))


def _least_score(model: "OnnxModel", row: str, min_score: float | str, path: Path) -> float:
    if not isinstance(min_score, str):
        return min_score
    best = model.metadata.thresholds["best_f1"].get(row)
    if best is None:
        raise UserError(f"{AUTO}: {path} has no best F1 of {row}", argument="min_score")
    return best


class _Job:
    """The images of one call, and what was found in them."""

    def __init__(
        self, model: "OnnxModel", row: str, least: float, max_pixels: int, folder: Path | None
    ) -> None:
        self.model = model
        self.row = row
        self.least = least
        self.max_pixels = max_pixels
        self.folder = folder
        self.unread: list[str] = []
        self.results: dict[str, list[dict[str, Any]]] = {name: [] for name in model.rows}
        self.images: list[dict[str, Any]] = []

    def look_at(self, path: Path, number: int, stream: IO[str] | None) -> None:
        """Detect, draw and print the objects of one image.

        One that cannot be read, or whose picture cannot be written, is listed.
        """
        try:
            about = self._found_in(path, number)
        except UserError as error:
            self.unread.append(str(error))
            about = {"error": str(error)}
        if stream is not None:
            stream.write(json_line(str(path), about))
            stream.flush()

    def _found_in(self, path: Path, number: int) -> dict[str, Any]:
        """Return the facts of an image, and keep its picture and its results if there is a folder.

        Raises UserError if the image cannot be read, or its picture not be written.
        """
        image = load_image(path, max_pixels=self.max_pixels)
        found = self.model.predict(image)
        over = found[self.row].over(self.least)
        size = {"height": image.height, "width": image.width}
        if self.folder is not None:
            picture = f"{number}_{picture_stem(path)}.png"
            boxes, labels, scores = over.boxes.tolist(), over.labels.tolist(), over.scores.tolist()
            drawn = draw_boxes(image, boxes, labels, self.model.names, scores)
            save_picture(drawn, self.folder / picture)
            self.images.append({"id": number, "file_name": str(path), "picture": picture, **size})
            ids = [category.id for category in self.model.metadata.classes]
            for name, row in found.items():
                self.results[name] += row.to_coco(number, ids)
        return {"row": self.row, **size, "detections": over.to_records()}

    def finish(self) -> None:
        """Write the COCO results of every row."""
        if self.folder is not None:
            write_json(self.folder / "images.json", self.images)
            for name, entries in self.results.items():
                write_json(self.folder / f"results_{name}.json", entries)
