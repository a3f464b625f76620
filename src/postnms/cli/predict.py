"""``postnms predict``: detect objects in a user's images."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from postnms.cli.console import progress_bar, say, stop_in_order, visible
from postnms.cli.limits import limit_setting, say_cut
from postnms.cli.options import Data, Run
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.data.image_files import FoundImages
    from postnms.inference.exports import Exports
    from postnms.inference.image_files import Drawing, Predicted
    from postnms.inference.tiles import Tiling
    from postnms.prediction import Model
    from postnms.runs.folder import RunFolder


def predict(
    run: Run,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(help="Image files, folders of images, or patterns such as 'in/**/*.jpg'."),
    ] = None,
    data: Data = None,
    split: Annotated[
        str | None, typer.Option(help="Split of --data, in place of images; default: val.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder to write pictures and COCO results to.")
    ] = None,
    json_to: Annotated[
        str | None,
        typer.Option(
            "--json", help="File for a line of JSON about each image; '-': standard output."
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Also write coco, csv or yolo into --out; repeatable."),
    ] = None,
    row: Annotated[
        str | None, typer.Option(help="The result in --json: nms or post_nms; default: the last.")
    ] = None,
    both: Annotated[
        bool, typer.Option("--both", help="Draw all rows side by side: plain NMS and the stage.")
    ] = False,
    min_score: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="What scores less is not drawn, and not in JSON, CSV and YOLO text."
        ),
    ] = 0.3,
    tile: Annotated[
        int | None,
        typer.Option(min=1, help="Look at larger images in square tiles of this side in pixels."),
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share that neighbouring tiles share.")] = 0.2,
    suppressor: Annotated[
        str, typer.Option(help="What joins tiles; see 'postnms suppressors'.")
    ] = "nms",
    device: Annotated[
        str | None, typer.Option(help="For example cpu or cuda:1; default: the GPU if any.")
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Larger images are left out; default: 200,000,000.")
    ] = None,
) -> None:
    """Detect objects in images, and write pictures and COCO results, or JSON.

    The same command again skips the images in --out that are done.
    """
    from postnms.inference.exports import Exports
    from postnms.inference.image_files import Drawing
    from postnms.inference.tiles import Tiling
    from postnms.prediction import load
    from postnms.runs.folder import RunFolder, read_recipe

    if folder is None and json_to is None:
        raise UserError("name a folder for pictures and results, or pass --json -", argument="out")
    if formats and folder is None:
        raise UserError("expected --out, the folder to write to, too", argument="formats")
    exports = Exports(formats or (), min_score)
    # Only JSON goes to standard output if it is asked for there.
    tell = (lambda text: print(visible(text), file=sys.stderr)) if json_to == "-" else say
    found = _find(inputs or [], folder, RunFolder(run), data, split, tell)
    model = load(run, device=device)
    tiling = None if tile is None else Tiling(tile, overlap, suppressor)
    job = _Job(model, found.paths, model.chosen_row(row), min_score, tiling, max_pixels)
    with _json_lines(json_to) as stream:
        if folder is None:
            unread = job.print_only(stream)
        else:
            done = job.write(folder, RunFolder(run), Drawing(both, min_score), exports, stream)
            unread = done.unread
            tell(_summary(folder, len(found.paths), done))
            limit = model.detector.network.max_detections
            remedy = f"the run's {limit_setting(read_recipe(RunFolder(run)))} is the limit"
            say_cut(done.cut, len(found.paths) - len(unread), limit, remedy, tell)
    if found.left_out:
        endings = [f"{ending or 'none'} {count}" for ending, count in found.left_out.most_common(5)]
        tell(f"{found.left_out.total()} files with other endings left out: {', '.join(endings)}")
    if unread:
        raise UserError(
            f"{len(unread)} of {len(found.paths)} images left out: {'; '.join(unread[:3])}"
        )


def _find(
    inputs: list[Path],
    folder: Path | None,
    run: "RunFolder",
    data: Path | None,
    split: str | None,
    tell: Callable[[str], None],
) -> "FoundImages":
    """Return the images that are named, or those of a split of a data folder."""
    from collections import Counter

    from postnms.data.image_files import FoundImages, find_images
    from postnms.data.splits import find_data
    from postnms.runs.folder import read_recipe

    if data is None:
        if split is not None or not inputs:
            raise UserError("expected images, or a data folder with --data and --split")
        return find_images(inputs, leave_out=folder)
    if inputs:
        raise UserError(f"expected images or --data, got both: {inputs[0]} and {data}")
    recipe = read_recipe(run)
    found = find_data(recipe.data, data, recipe.seed)
    paths = [record.path for record in found.read(split or "val").records]
    tell(found.describe())
    if not paths:
        raise UserError(f"{data}: split {split or 'val'}: expected at least one image, got none")
    return FoundImages(paths, Counter())


@dataclass(frozen=True)
class _Job:
    """The images of one call, and how a model looks at them."""

    model: "Model"
    paths: list[Path]
    row: str
    min_score: float
    tiling: "Tiling | None"
    max_pixels: int | None

    @property
    def pixels(self) -> int:
        from postnms.data.image_files import MAX_PIXELS

        return self.max_pixels or MAX_PIXELS

    def print_only(self, stream: IO[str] | None) -> list[str]:
        """Print a line of JSON about each image, and return what could not be read."""
        from postnms.prediction.inputs import Source

        unread = []
        with progress_bar("images", len(self.paths)) as done:
            for path in self.paths:
                try:
                    [found] = self.model.stream(
                        [Source(str(path), path)],
                        row=self.row,
                        min_score=self.min_score,
                        tiling=self.tiling,
                        max_pixels=self.pixels,
                    )
                    height, width = found.image_size
                    records = found.to_records()
                    about = {"height": height, "width": width, "detections": records}
                except UserError as error:
                    unread.append(str(error))
                    about = {"error": str(error)}
                self._print(stream, str(path), about)
                done(1)
        return unread

    def write(
        self,
        folder: Path,
        source: "RunFolder",
        drawing: "Drawing",
        exports: "Exports",
        stream: IO[str] | None,
    ) -> "Predicted":
        """Write pictures, COCO results and further formats, and print lines of JSON if wanted."""
        from postnms.files.atomic import hash_of
        from postnms.inference.exports import detections_of
        from postnms.inference.image_files import predict_files
        from postnms.runs.folder import read_recipe

        recipe = read_recipe(source)
        about = {
            "weights_sha256": hash_of(source.newest_weights),
            "recipe": recipe.model_dump(mode="json"),
        }
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
                recipe.detector.input_size,
                categories,
                self.paths,
                folder,
                drawing,
                about,
                max_pixels=self.pixels,
                tiling=self.tiling,
                exports=exports,
                report=None if stream is None else report,
                done=done,
            )

    def _print(self, stream: IO[str] | None, file_name: str, about: Mapping[str, Any]) -> None:
        from postnms.inference.exports import json_line

        if stream is not None:
            row = {} if "error" in about else {"row": self.row}
            stream.write(json_line(file_name, {**row, **about}))
            stream.flush()


@contextmanager
def _json_lines(where: str | None) -> Iterator[IO[str] | None]:
    """Give the open file for lines of JSON: standard output for ``-``, None for None."""
    from postnms.files.atomic import atomic_path

    if where is None or where == "-":
        yield None if where is None else sys.stdout
        return
    with atomic_path(Path(where)) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def _summary(folder: Path, count: int, predicted: "Predicted") -> str:
    shown = ", ".join(f"{row} {number} detections" for row, number in predicted.detections.items())
    before = f" ({predicted.skipped} were done before)" if predicted.skipped else ""
    pictures = count - len(predicted.unread)
    return f"{pictures} pictures{before} and COCO results in {folder}: {shown}"
