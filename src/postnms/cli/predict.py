"""``postnms predict``: detect objects in a user's images."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postnms.cli.console import say, visible
from postnms.cli.limits import limit_setting, say_cut
from postnms.cli.options import Data, Run
from postnms.cli.prediction_job import PredictionJob, json_lines_to, refuse_options, refuse_unread
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.data.image_files import FoundImages
    from postnms.inference.image_files import Predicted
    from postnms.prediction import Model
    from postnms.prediction.min_scores import MinScoreInput
    from postnms.recipes import Recipe

Images = Annotated[
    list[Path] | None,
    typer.Argument(help="Image files, folders of images, or patterns such as 'in/**/*.jpg'."),
]
SplitOfData = Annotated[
    str | None, typer.Option("--split", help="Split of --data, in place of images; default: val.")
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder to write pictures and COCO results to.")
]
JsonTo = Annotated[
    str | None,
    typer.Option("--json", help="File for a line of JSON about each image; '-': standard output."),
]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", help="Also write coco, csv or yolo into --out; repeatable."),
]
Row = Annotated[
    str | None,
    typer.Option("--row", help="The row of the run in --json, such as nms; default: the last."),
]
Both = Annotated[
    bool, typer.Option("--both", help="Draw all rows side by side: plain NMS and the stage.")
]
Suppressed = Annotated[
    bool,
    typer.Option("--suppressed", help="Draw the boxes that NMS suppressed too, as thin lines."),
]
MinScore = Annotated[
    str,
    typer.Option(
        "--min-score",
        metavar="SCORE|auto",
        help="What scores less is not drawn, and not in JSON, CSV and YOLO text. auto: the score "
        "of each row with the best F1 on the run's val split.",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option("--tile", min=1, help="Look at larger images in square tiles of so many pixels."),
]
Overlap = Annotated[
    float | None,
    typer.Option("--overlap", help="Share that neighbouring tiles have in common; default: 0.2."),
]
Joining = Annotated[
    str | None,
    typer.Option("--suppressor", help="What joins tiles, default: nms; see 'postnms suppressors'."),
]
ClassAgnostic = Annotated[
    float | None,
    typer.Option(
        "--class-agnostic",
        metavar="IOU",
        help="Of two boxes that overlap by more than this, keep the better one, whatever their "
        "classes; default: none.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="For example cpu or cuda:1; default: the GPU if any."),
]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1, help="Larger images are left out; default: 200,000,000."),
]


def predict(
    run: Run,
    inputs: Images = None,
    data: Data = None,
    split: SplitOfData = None,
    folder: Out = None,
    json_to: JsonTo = None,
    formats: Formats = None,
    row: Row = None,
    both: Both = False,
    suppressed: Suppressed = False,
    min_score: MinScore = "0.3",
    tile: Tile = None,
    overlap: Overlap = None,
    suppressor: Joining = None,
    class_agnostic: ClassAgnostic = None,
    device: Device = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Detect objects in images, and write pictures and COCO results, or JSON.

    The same command again skips the images in --out that are done. RUN may also be a model.onnx of
    'postnms export', which needs no torch.
    """
    from postnms.cli.predict_onnx import TAKEN, predict_onnx, refuse_program

    least = _read_min_score(min_score)
    refuse_program(run)
    drawn = {"both": both, "suppressed": suppressed, "formats": formats}
    given = {"overlap": overlap, "suppressor": suppressor}
    tiled: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if run.suffix == ".onnx":
        others = {"data": data, "split": split, "tile": tile, "device": device}
        others["class_agnostic"] = class_agnostic
        refuse_options({**others, **drawn, **tiled}, TAKEN.format(run))
        predict_onnx(run, inputs or [], folder, json_to, row, least, max_pixels)
        return
    from postnms.data.image_files import MAX_PIXELS
    from postnms.inference.exports import Exports
    from postnms.inference.image_files import Drawing
    from postnms.inference.least_scores import least_score
    from postnms.inference.looking import Look
    from postnms.inference.tiles import Tiling
    from postnms.prediction import load
    from postnms.runs.folder import RunFolder, read_recipe

    _check_options(folder, json_to, drawn, tile, tiled)
    exports = Exports(formats or ())
    # Only JSON goes to standard output if it is asked for there.
    tell = (lambda text: print(visible(text), file=sys.stderr)) if json_to == "-" else say
    source = RunFolder(run)
    recipe = read_recipe(source)
    found = _find(inputs or [], folder, recipe, data, split, tell)
    model = load(run, device=device)
    tiling = None if tile is None else Tiling(tile, **tiled)
    look = Look(model.input_size, tiling, class_agnostic)
    chosen, pixels = model.chosen_row(row), max_pixels or MAX_PIXELS
    scores = _scores_of_rows(model, least, [chosen] if folder is None else model.rows, tell)
    least_of_chosen = least_score(scores, chosen)
    job = PredictionJob(model, recipe, found.paths, chosen, least_of_chosen, look, pixels)
    with json_lines_to(json_to) as stream:
        if folder is None:
            unread = job.print_only(stream)
        else:
            weights, drawing = source.newest_weights, Drawing(both, scores, suppressed)
            done = job.write(folder, weights, drawing, replace(exports, min_score=scores), stream)
            unread = done.unread
            tell(_summary(folder, len(found.paths), done))
            limit = model.detector.network.max_detections
            remedy = f"the run's {limit_setting(recipe)} is the limit"
            where = "" if tile is None else " in a tile, or as a whole"
            say_cut(done.cut, len(found.paths) - len(unread), limit, remedy, tell, where)
    if found.left_out:
        tell(_left_out(found.left_out))
    refuse_unread(unread, len(found.paths))


def _check_options(
    folder: Path | None,
    json_to: str | None,
    drawn: Mapping[str, object],
    tile: int | None,
    tiled: Mapping[str, object],
) -> None:
    """Raise UserError without any output, and for an option that would have no effect.

    ``drawn`` are the options of pictures, ``tiled`` those of tiles.
    """
    if folder is None and json_to is None:
        raise UserError("name a folder for pictures and results, or pass --json -", argument="out")
    if folder is None:
        refuse_options(drawn, "expected --out, the folder to write to, too")
    if tile is None:
        refuse_options(tiled, "expected --tile, the side of the tiles, too")
    elif drawn["suppressed"]:
        raise UserError("expected no --tile, with which they are not known", argument="suppressed")


def _find(
    inputs: list[Path],
    folder: Path | None,
    recipe: "Recipe",
    data: Path | None,
    split: str | None,
    tell: Callable[[str], None],
) -> "FoundImages":
    """Return the images that are named, or those of a split of a data folder."""
    from postnms.data.image_files import FoundImages, find_images
    from postnms.data.splits import find_data

    if data is None:
        if split is not None or not inputs:
            raise UserError("expected images, or a data folder with --data and --split")
        return find_images(inputs, leave_out=folder)
    if inputs:
        raise UserError(f"expected images or --data, got both: {inputs[0]} and {data}")
    found = find_data(recipe.data, data, recipe.seed)
    paths = [record.path for record in found.read(split or "val").records]
    tell(found.describe())
    if not paths:
        raise UserError(f"{data}: split {split or 'val'}: expected at least one image, got none")
    return FoundImages(paths, Counter())


def _left_out(endings: "Counter[str]") -> str:
    """Return how many files a folder has that no image can be, by their endings."""
    most = [f"{ending or 'none'} {count}" for ending, count in endings.most_common(5)]
    return f"{endings.total()} files with other endings left out: {', '.join(most)}"


def _read_min_score(text: str) -> "MinScoreInput":
    """Return the value of ``--min-score``. Raises UserError if it is neither of the two."""
    from postnms.cli.predict_onnx import AUTO

    if text == AUTO:
        return AUTO
    try:
        least = float(text)
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise UserError(
            f"expected a number from 0 to 1 or {AUTO}, got {text}", argument="min_score"
        )
    return least


def _scores_of_rows(
    model: "Model", least: "MinScoreInput", rows: Sequence[str], tell: Callable[[str], None]
) -> "float | dict[str, float]":
    """Return the least score as a number, or one for each row if it is ``auto``, and say these."""
    if not isinstance(least, str):
        return least
    scores = {row: model.chosen_min_score(least, row) for row in rows}
    told = ", ".join(f"{row} {score:.3f}" for row, score in scores.items())
    tell(f"least scores, with the best F1 on val: {told}")
    return scores


def _summary(folder: Path, count: int, predicted: "Predicted") -> str:
    shown = ", ".join(f"{row} {number} detections" for row, number in predicted.detections.items())
    before = f" ({predicted.skipped} were done before)" if predicted.skipped else ""
    pictures = count - len(predicted.unread)
    return f"{pictures} pictures{before} and COCO results in {folder}: {shown}"
