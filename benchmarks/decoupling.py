"""Time the decoupling layer at the boxes beside the whole pyramid, and a detector with the stage.

    python benchmarks/decoupling.py [--parts layer detector training] [--threads 1] [--rounds 7]

There are three parts. Each has random weights and an image of 800 x 1333 pixels, and its sides take
turns in one process.

``layer`` compares two ways to apply the layer. One convolves every level and pools the result. The
other pools the surroundings of the boxes and applies the kernel to those. Both are timed for
several numbers of boxes, with and without the backward pass.

``detector`` times Faster R-CNN R50-FPN without the stage, with the stage, and with a stage that
convolves every level, on 100 detections.

``training`` times a training step of the same detector with and without the stage. As in
``faster_rcnn_r50_fpn_1x``, batch norm and the first two blocks are frozen. There are 20 objects.
The number of rows of the stage follows from ``--candidates``.
"""

import argparse
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torchvision
from torch import Tensor

from detectors import OUTPUTS, calibrate, leave_candidates, multiply_adds, photograph, spread
from postnms import StageConfig
from postnms.cli.console import command_line
from postnms.data.loader import Batch
from postnms.detectors import BackboneConfig, Detector, FasterRCNNConfig, build_detector
from postnms.distributed.processes import get_accelerator
from postnms.files.atomic import write_json
from postnms.ops.pooling.convolved import pool_convolved
from postnms.ops.pooling.roi_align import pool_pyramid
from postnms.recipes import get_recipe
from postnms.runs.provenance import provenance
from postnms.speed.timing import milliseconds
from postnms.stage import decoupling
from postnms.structures import Level, Targets
from postnms.training.optimizer import build_optimizer
from postnms.training.step import training_step

SIZE = (800, 1333)
"""Height and width of the image in pixels."""
STRIDES = (4, 8, 16, 32)
"""Strides of the pyramid levels in pixels."""
CHANNELS = 256
"""Channels of each level."""
MOST_RATIO = {"detector": 1.10, "training": 1.15}
"""Largest ratio of the time with the stage to the time without it that each part should have."""


def random_boxes(count: int, shortest: float = 16, longest: float = 400) -> Tensor:
    """Return random boxes (count, 4) in the image.

    The logarithms of their sides are spread evenly between those of ``shortest`` and ``longest``.
    """
    random = torch.Generator().manual_seed(0)
    limit = torch.tensor([SIZE[1], SIZE[0]])
    sides = shortest * (longest / shortest) ** torch.rand(count, 2, generator=random)
    corner = torch.rand(count, 2, generator=random) * (limit - sides)
    return torch.cat([corner, corner + sides], dim=1)


def compare_layer(count: int, rounds: int, *, back: bool) -> dict[str, float]:
    """Time both ways to apply the layer for ``count`` boxes, and count their multiply-adds.

    ``back``: include the backward pass.
    """
    torch.manual_seed(0)
    levels = {str(i): Level(CHANNELS, stride) for i, stride in enumerate(STRIDES)}
    layer = decoupling.DecouplingLayer(levels, CHANNELS)
    shapes = [
        (math.ceil(SIZE[0] / 32) * 32 // stride, math.ceil(SIZE[1] / 32) * 32 // stride)
        for stride in STRIDES
    ]
    features = {
        str(i): torch.randn(1, CHANNELS, *shape, requires_grad=back)
        for i, shape in enumerate(shapes)
    }
    boxes = random_boxes(count)
    image = torch.zeros(count, dtype=torch.int64)
    weight = layer.conv.weight
    bias = layer.conv.bias
    gradient = torch.randn(count, CHANNELS, 7, 7)

    def run(pool: Callable[[], Tensor]) -> None:
        with torch.set_grad_enabled(back):
            pooled = pool()
        if back:
            pooled.backward(gradient)

    sides = {
        "plain": partial(run, lambda: pool_pyramid(layer(features), boxes, image, STRIDES)),
        "lazy": partial(run, lambda: pool_convolved(features, boxes, image, STRIDES, weight, bias)),
    }
    times = milliseconds(sides, rounds, warmup=1)
    costs = {f"{name}_multiply_adds": multiply_adds(call) for name, call in sides.items()}
    ratio = times["lazy"] / times["plain"]
    # Each box is pooled into 7 x 7 cells.
    cells_of_a_pixel = 49 * count / sum(height * width for height, width in shapes)
    return {**times, **costs, "ratio": ratio, "pixels_of_a_cell": ratio / cells_of_a_pixel}


def build(stage: StageConfig | None, body: str | None = None) -> Detector:
    """Return a Faster R-CNN R50-FPN with random weights, in evaluation mode.

    ``body`` is a file with the weights of the ResNet, whose batch norm is then frozen. None: they
    are random too, and batch norm is trained.
    """
    backbone = (
        BackboneConfig(weights=body, norm="frozen", trainable_layers=3)
        if body
        else BackboneConfig()
    )
    torch.manual_seed(0)
    config = FasterRCNNConfig(backbone=backbone, min_size=min(SIZE), max_size=max(SIZE))
    return build_detector(config, stage, OUTPUTS - 1).eval()


def share_network(candidates: int, body: str | None = None) -> tuple[Detector, Detector]:
    """Return a detector without the stage, and one with the stage on the same network.

    The score threshold of the network leaves ``candidates`` candidates. ``body`` is that of
    :func:`build`.
    """
    bare = build(None, body)
    whole = build(StageConfig(), body)
    if body is None:
        calibrate(bare.get_submodule("network.backbone"))
    spread(bare, bare)
    leave_candidates(bare, bare, [photograph(SIZE)], candidates)
    whole.network = bare.network
    return bare, whole


def count_rows(detector: Detector, call: Callable[[], object]) -> int:
    """Return the number of rows that the heads of the stage see in a call."""
    seen: list[int] = []
    hook = detector.get_submodule("stage.heads").register_forward_hook(
        lambda _, given, out: seen.append(len(out[0]))
    )
    call()
    hook.remove()
    return sum(seen)


@torch.no_grad()
def compare_detector(candidates: int, rounds: int) -> dict[str, float]:
    """Time the detection in one image without the stage, with it, and with all levels convolved."""
    bare, whole = share_network(candidates)
    image = [photograph(SIZE)]

    def convolving() -> None:
        # With an infinite break-even point, the layer always convolves the whole pyramid.
        with mock.patch.object(decoupling, "PIXELS_OF_A_CELL", math.inf):
            whole(image)

    sides = {"without": lambda: bare(image), "with": lambda: whole(image), "convolving": convolving}
    times = milliseconds(sides, rounds)
    costs = {f"{name}_multiply_adds": multiply_adds(call) for name, call in sides.items()}
    return {
        **times,
        **costs,
        "ratio": times["with"] / times["without"],
        "convolving_ratio": times["convolving"] / times["without"],
        "detections": len(whole(image).rows["post_nms"].scores),
        "rows": count_rows(whole, lambda: whole(image)),
    }


def compare_training(candidates: int, rounds: int) -> dict[str, float]:
    """Time a training step on one image with and without the stage.

    The learning rate is tiny, so that the steps hardly change the weights.
    """
    recipe = get_recipe("faster_rcnn_r50_fpn_1x", {"training.lr": 1e-9})
    accelerator = get_accelerator()
    torch.manual_seed(0)
    body = torchvision.models.resnet50(weights=None)
    calibrate(body)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(body.state_dict(), file := Path(folder) / "body.pth")
        bare, whole = share_network(candidates, str(file))
    labels = torch.randint(OUTPUTS - 1, (20,), generator=torch.Generator().manual_seed(0))
    image = torch.zeros(20, dtype=torch.int64)
    crowd = torch.zeros(20, dtype=torch.bool)
    targets = Targets(random_boxes(20, 32), labels, image, crowd, num_images=1)
    batch = Batch([photograph(SIZE)], targets, [0], [SIZE])
    sides = {}
    for name, detector in (("without", bare), ("with", whole)):
        optimizer = build_optimizer(detector.train(), recipe.training)
        sides[name] = partial(
            training_step, detector, optimizer, batch, recipe.training, accelerator
        )
    rows = count_rows(whole, sides["with"])
    times = milliseconds(sides, rounds, warmup=1)
    return {**times, "ratio": times["with"] / times["without"], "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", default=["layer", "detector", "training"])
    parser.add_argument(
        "--boxes", nargs="*", type=int, default=[50, 100, 200, 400, 800, 1600, 4000]
    )
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    record: dict[str, dict[str, float]] = {}
    if "layer" in arguments.parts:
        print("boxes     pass  plain ms   lazy ms  ratio  G madds plain   lazy  pixels of a cell")
        for count in arguments.boxes:
            for kind in ("forward", "and back"):
                figures = compare_layer(count, arguments.rounds, back=kind == "and back")
                record[f"layer {count} {kind}"] = figures
                print(
                    f"{count:5d} {kind:>8} "
                    f"{figures['plain']:9.1f} {figures['lazy']:9.1f} {figures['ratio']:6.3f} "
                    f"{figures['plain_multiply_adds']:14.1f} {figures['lazy_multiply_adds']:6.1f} "
                    f"{figures['pixels_of_a_cell']:17.2f}",
                    flush=True,
                )
    for name, compare in (("detector", compare_detector), ("training", compare_training)):
        if name in arguments.parts:
            figures = compare(arguments.candidates, arguments.rounds)
            record[name] = figures
            limit = MOST_RATIO[name]
            met = "met" if figures["ratio"] <= limit else "missed"
            print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
            print(f"  ratio {figures['ratio']:.3f}, at most {limit:.2f}: {met}", flush=True)
    if arguments.out:
        about = provenance(0, None, command_line())
        write_json(arguments.out, {**about, "threads": torch.get_num_threads(), "figures": record})


if __name__ == "__main__":
    main()
