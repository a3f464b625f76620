"""What ``postnms predict`` does with the images of one call."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from postnms.cli.console import progress_bar, stop_in_order
from postnms.cli.outputs import check_replaces
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.inference.exports import Exports
    from postnms.inference.image_files import Drawing, Predicted
    from postnms.inference.looking import Look
    from postnms.inference.reading import ReadImage
    from postnms.prediction import Model
    from postnms.recipes import Recipe


@dataclass(frozen=True)
class PredictionJob:
    """The images of one call, and how a model looks at them."""

    model: "Model"
    recipe: "Recipe"
    """The recipe of the run that the model is from."""
    paths: list[Path]
    row: str
    min_score: float
    look: "Look"
    max_pixels: int

    def print_only(self, stream: IO[str] | None) -> list[str]:
        """Print a line of JSON about each image, and return what could not be read."""
        from postnms.inference.reading import read_files

        unread = []
        read = read_files(self.paths, self.recipe.data.workers, self.max_pixels)
        with progress_bar("images", len(self.paths)) as done:
            for path, file in zip(self.paths, read, strict=True):
                try:
                    about = self._look_at(path, file)
                except UserError as error:
                    unread.append(str(error))
                    about = {"error": str(error)}
                self._print(stream, str(path), about)
                done(1)
        return unread

    def _look_at(self, path: Path, file: "ReadImage") -> dict[str, Any]:
        """Return the facts of an image. Raises UserError if it could not be read."""
        from postnms.prediction.inputs import Source

        if file.image is None:
            raise UserError(file.error)
        source = Source(str(path), image=file.image)
        options = {"row": self.row, "min_score": self.min_score}
        [found] = self.model.stream([source], self.look, **options)
        height, width = found.image_size
        return {"height": height, "width": width, "detections": found.to_records()}

    def write(
        self,
        folder: Path,
        weights: Path,
        drawing: "Drawing",
        exports: "Exports",
        stream: IO[str] | None,
    ) -> "Predicted":
        """Write pictures, COCO results and further formats, and print lines of JSON if wanted.

        ``weights`` is the file of the model, whose content the folder is bound to.
        """
        from postnms.files.atomic import hash_of
        from postnms.inference.exports import detections_of
        from postnms.inference.image_files import predict_files

        recipe = self.recipe
        about = {"weights_sha256": hash_of(weights), "recipe": recipe.model_dump(mode="json")}
        categories = self.model.categories

        def report(line: Mapping[str, Any]) -> None:
            if "error" in line:
                self._print(stream, line["file_name"], {"error": line["error"]})
                return
            records = detections_of(line, self.row, categories, self.min_score)
            size = {"height": line["height"], "width": line["width"]}
            self._print(stream, line["file_name"], {**size, "detections": records})

        stopped = "predict: stopped; what is done is kept, the same command goes on with it"
        with stop_in_order(stopped), progress_bar("images", len(self.paths)) as done:
            return predict_files(
                self.model.detector,
                self.look,
                categories,
                self.paths,
                folder,
                drawing,
                about,
                max_pixels=self.max_pixels,
                exports=exports,
                report=None if stream is None else report,
                done=done,
                workers=recipe.data.workers,
            )

    def _print(self, stream: IO[str] | None, file_name: str, about: Mapping[str, Any]) -> None:
        from postnms.inference.exports import json_line

        if stream is not None:
            row = {} if "error" in about else {"row": self.row}
            stream.write(json_line(file_name, {**row, **about}))
            stream.flush()


def refuse_options(options: Mapping[str, object], message: str) -> None:
    """Raise UserError with the first of some options that is set, since it would have no effect.

    An option that is not set is None, or False if it is a switch.
    """
    for name, value in options.items():
        if value is not None and value is not False:
            raise UserError(message, argument=name)


def refuse_unread(unread: Sequence[str], count: int) -> None:
    """Raise UserError if images could not be read. ``unread`` says why, of ``count`` images."""
    if unread:
        raise UserError(f"{len(unread)} of {count} images left out: {'; '.join(unread[:3])}")


@contextmanager
def json_lines_to(where: str | None) -> Iterator[IO[str] | None]:
    """Give the open file for lines of JSON: standard output for ``-``, None for None.

    Raises UserError if the file is there and holds anything but such lines.
    """
    from postnms.files.atomic import atomic_path

    if where is None or where == "-":
        yield None if where is None else sys.stdout
        return
    check_replaces(Path(where), _read_first_line, "file of 'postnms predict --json'", "json_to")
    with atomic_path(Path(where)) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def _read_first_line(file: Path) -> None:
    """Raise UserError unless a file is empty or begins with a line about an image."""
    from postnms.files.json_files import LIMITS, parse_json

    if not file.is_file():
        raise UserError(f"{file}: expected a file, got something else")
    with file.open("rb") as opened:
        line = opened.readline(LIMITS.entry)
    content = parse_json(line, str(file)) if line else {"file_name": "", "error": ""}
    if not isinstance(content, dict) or not (
        "file_name" in content and content.keys() & {"detections", "error"}
    ):
        raise UserError(f"{file}: expected lines about images, got another form")
