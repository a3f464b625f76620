"""Time a detector with its stage in torch, under torch.compile, and as an exported model.

    python benchmarks/export.py [RUN] [--data FOLDER] [--images 4] [--rounds 7] [--threads 1]
        [--sides NAME ...] [--out FILE]

Without RUN the detector is a Faster R-CNN R50-FPN with random weights and a stage, on one image of
800 x 1333 pixels. The score threshold leaves ``--candidates`` boxes to suppress. With RUN it is
that of the run, on the first val images, resized as the run resizes them.

The sides take turns on the same images in one process. ``eager`` is the detector, ``onnxruntime``
the one file of ``postnms export``; both give all rows. ``around_nms``, its two files with the NMS
of this library between them, and ``torch.compile`` give the rows ``nms`` and ``post_nms`` alone. A
side that does not work is named, with the reason, and the others are timed. What making a side
takes is printed too.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detectors import calibrate, candidates_of, leave_candidates, photograph, spread
from postnms import StageConfig
from postnms.cli.console import command_line
from postnms.data.splits import open_val
from postnms.detectors import FasterRCNNConfig, build_detector
from postnms.export.around_nms import ROWS, export_around_nms, open_around_nms, part_paths
from postnms.export.graph import DetectionGraph
from postnms.export.onnx_model import OnnxModel
from postnms.export.writer import export
from postnms.files.atomic import write_json
from postnms.prediction import Model, load
from postnms.runs.folder import RunFolder, read_recipe
from postnms.runs.provenance import provenance
from postnms.speed.timing import measure

SIZE = (800, 1333)
"""(height, width) in pixels of the image without a run."""
CLASSES = 90
Side = Callable[[Tensor], object]
"""A way to detect the objects of one image (3, h, w) uint8."""


def random_model(count: int) -> tuple[Model, list[Tensor]]:
    """Return a Faster R-CNN R50-FPN with a stage that has ``count`` candidates, and its image."""
    torch.manual_seed(0)
    config = FasterRCNNConfig(min_size=SIZE[0], max_size=SIZE[1])
    detector = build_detector(config, StageConfig(), CLASSES).eval()
    calibrate(detector.get_submodule("network.backbone"))
    spread(detector, detector)
    image = photograph(SIZE)
    leave_candidates(detector, detector, [image], count)
    names = [str(number) for number in range(CLASSES)]
    return Model(detector, names, input_size=SIZE), [(255 * image).byte()]


def run_model(run: Path, data: Path | None, count: int) -> tuple[Model, list[Tensor]]:
    """Return the model of a run, and the first images of its val split."""
    model, recipe = load(run, device="cpu"), read_recipe(RunFolder(run))
    size = recipe.detector.input_size
    split = open_val(recipe.data, data, model.categories, size, recipe.seed)
    return model, [split[index].image for index in range(min(count, len(split)))]


def eager(model: Model, folder: Path) -> Side:
    """Return the detector as it is."""
    return lambda image: model.detector([image])


def compiled(model: Model, folder: Path) -> Side:
    """Return the path to the rows ``nms`` and ``post_nms`` under ``torch.compile``.

    It has graph breaks where a number of boxes is not known. As one graph (``fullgraph``) a small
    detector was not compiled within two minutes.
    """
    rows = [name for name in ROWS if name in model.rows]
    graph = torch.compile(DetectionGraph(model.detector, rows).eval())
    return lambda image: graph(image[None])


def in_onnxruntime(model: Model, folder: Path) -> Side:
    """Return the exported model."""
    export(model, folder / "model.onnx", "onnx", {})
    exported = OnnxModel(folder / "model.onnx", threads=torch.get_num_threads())
    return lambda image: exported.run(image[None].numpy())


def around_nms(model: Model, folder: Path) -> Side:
    """Return the exported model of two files."""
    export_around_nms(model, folder / "model.onnx", {})
    paths = part_paths(folder / "model.onnx")
    exported = open_around_nms(*paths, threads=torch.get_num_threads())
    return lambda image: exported.run(image[None].numpy())


SIDES: dict[str, Callable[[Model, Path], Side]] = {
    "eager": eager,
    "onnxruntime": in_onnxruntime,
    "around_nms": around_nms,
    "torch.compile": compiled,
}
"""What makes each side."""


def made_sides(
    names: Sequence[str], model: Model, images: list[Tensor], folder: Path
) -> tuple[dict[str, Side], dict[str, str]]:
    """Return the sides that work, and why the others do not."""
    sides: dict[str, Side] = {}
    failed: dict[str, str] = {}
    for name in names:
        make = SIDES[name]
        begin = time.perf_counter()
        try:
            side = make(model, folder)
            for image in images:  # torch.compile compiles at the first calls.
                side(image)
        except Exception as error:  # What torch and onnxruntime raise has no common class.
            lines = str(error).splitlines() or [""]
            failed[name] = f"{type(error).__name__}: {lines[0][:200]}"
            print(f"{name:14} does not work: {failed[name]}", flush=True)
            continue
        print(f"{name:14} made in {time.perf_counter() - begin:.1f} s", flush=True)
        sides[name] = side
    return sides, failed


@torch.no_grad()
def compare(
    names: Sequence[str], model: Model, images: list[Tensor], rounds: int
) -> dict[str, Any]:
    """Return the median milliseconds of an image of each side, and their ratios to eager."""
    with tempfile.TemporaryDirectory() as folder:
        sides, failed = made_sides(names, model, images, Path(folder))

        def over_images(side: Side) -> Callable[[], object]:
            return lambda: [side(image) for image in images]

        calls = {name: over_images(side) for name, side in sides.items()}
        timings = measure(calls, rounds, warmup=1, budget=1e9)
    times = {name: timing.milliseconds / len(images) for name, timing in timings.items()}
    ratios = {name: value / times["eager"] for name, value in times.items()}
    for name, ratio in ratios.items():
        print(f"{name:14} {times[name]:9.2f} ms an image  {ratio:.3f} of eager")
    counts = [len(candidates_of(model.detector, [image])) for image in images]
    return {"milliseconds": times, "ratios": ratios, "failed": failed, "candidates": counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=4, help="of the run")
    parser.add_argument("--candidates", type=int, default=500, help="without a run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.run is None:
        model, images = random_model(arguments.candidates)
    else:
        model, images = run_model(arguments.run, arguments.data, arguments.images)
    names = ["eager", *(name for name in arguments.sides if name != "eager")]
    figures = compare(names, model, images, arguments.rounds)
    sizes = sorted({tuple(image.shape[1:]) for image in images})
    print(f"{len(images)} images of {sizes}, {arguments.threads} threads")
    if arguments.out is not None:
        about = {"threads": arguments.threads, "sizes": sizes, "rounds": arguments.rounds}
        origin = provenance(0, arguments.data, command_line())
        write_json(arguments.out, {**origin, **about, **figures})


if __name__ == "__main__":
    main()
