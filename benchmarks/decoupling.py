"""The decoupling layer at the boxes alone against the whole pyramid, and what the stage adds to a detector.

    python benchmarks/decoupling.py [--parts layer detector training] [--threads 1] [--rounds 7]

Three parts, each at 800 x 1333 with random weights, the sides taking turns in one process:

``layer``: convolving every level and pooling, against pooling what the convolution would give, for several numbers of
boxes, forward and with the way back.
``detector``: Faster R-CNN R50-FPN with the stage, the stage convolving every level, and without it, on 100 detections.
``training``: a training step of the same with and without the stage: as in ``faster_rcnn_r50_fpn_1x``, batch norm and
the first two blocks are frozen; 20 objects, and as many rows for the stage as ``--candidates`` gives.
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

SIZE, STRIDES, CHANNELS = (800, 1333), (4, 8, 16, 32), 256
WIDEST = {"detector": 1.10, "training": 1.25}
"""What the ratios with the stage to those without it are to be at most."""


def some_boxes(count: int, shortest: float = 16, longest: float = 400) -> Tensor:
    """(count, 4): boxes in the image, their sides spread evenly over a logarithmic scale."""
    random = torch.Generator().manual_seed(0)
    limit = torch.tensor([SIZE[1], SIZE[0]])
    sides = shortest * (longest / shortest) ** torch.rand(count, 2, generator=random)
    corner = torch.rand(count, 2, generator=random) * (limit - sides)
    return torch.cat([corner, corner + sides], dim=1)


def compare_layer(count: int, rounds: int, *, back: bool) -> dict[str, float]:
    """Milliseconds and multiply-adds of both orders for so many boxes."""
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
    boxes, image = some_boxes(count), torch.zeros(count, dtype=torch.int64)
    weight, bias = layer.conv.weight, layer.conv.bias
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
    found = milliseconds(sides, rounds, warmup=1)
    costs = {f"{name}_multiply_adds": multiply_adds(call) for name, call in sides.items()}
    cells = 49 * count / sum(height * width for height, width in shapes)
    return {
        **found,
        **costs,
        "ratio": found["lazy"] / found["plain"],
        "pixels_of_a_cell": found["lazy"] / found["plain"] / cells,
    }


def build(stage: StageConfig | None, body: str | None = None) -> Detector:
    """Faster R-CNN R50-FPN with random weights; ``body``: a file with those of the body, whose norm is then frozen."""
    backbone = (
        BackboneConfig(weights=body, norm="frozen", trainable_layers=3)
        if body
        else BackboneConfig()
    )
    torch.manual_seed(0)
    config = FasterRCNNConfig(backbone=backbone, min_size=min(SIZE), max_size=max(SIZE))
    return build_detector(config, stage, OUTPUTS - 1).eval()


def share_network(candidates: int, body: str | None = None) -> tuple[Detector, Detector]:
    """A detector without the stage, and one with it on the same network, which leaves so many candidates."""
    bare, whole = build(None, body), build(StageConfig(), body)
    if body is None:
        calibrate(bare.get_submodule("network.backbone"))
    spread(bare, bare)
    leave_candidates(bare, bare, [photograph(SIZE)], candidates)
    whole.network = bare.network
    return bare, whole


def count_rows(detector: Detector, call: Callable[[], object]) -> int:
    """Rows that the stage sees in a call."""
    seen: list[int] = []
    hook = detector.get_submodule("stage.heads").register_forward_hook(
        lambda _, given, out: seen.append(len(out[0]))
    )
    call()
    hook.remove()
    return sum(seen)


@torch.no_grad()
def compare_detector(candidates: int, rounds: int) -> dict[str, float]:
    """Milliseconds of an image with and without the stage, and with its convolution of the whole pyramid."""
    bare, whole = share_network(candidates)
    image = [photograph(SIZE)]

    def convolving() -> None:
        with mock.patch.object(decoupling, "PIXELS_OF_A_CELL", math.inf):
            whole(image)

    sides = {"without": lambda: bare(image), "with": lambda: whole(image), "convolving": convolving}
    found = milliseconds(sides, rounds)
    costs = {f"{name}_multiply_adds": multiply_adds(call) for name, call in sides.items()}
    return {
        **found,
        **costs,
        "ratio": found["with"] / found["without"],
        "convolving_ratio": found["convolving"] / found["without"],
        "detections": len(whole(image).rows["post_nms"].scores),
        "rows": count_rows(whole, lambda: whole(image)),
    }


def compare_training(candidates: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a training step of one image with and without the stage."""
    recipe, accelerator = (
        get_recipe("faster_rcnn_r50_fpn_1x", ["training.lr=1e-9"]),
        get_accelerator(),
    )
    torch.manual_seed(0)
    body = torchvision.models.resnet50(weights=None)
    calibrate(body)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(body.state_dict(), file := Path(folder) / "body.pth")
        bare, whole = share_network(candidates, str(file))
    labels = torch.randint(OUTPUTS - 1, (20,), generator=torch.Generator().manual_seed(0))
    whole_image = torch.zeros(20, dtype=torch.int64)
    targets = Targets(
        some_boxes(20, 32), labels, whole_image, torch.zeros(20, dtype=torch.bool), num_images=1
    )
    batch = Batch([photograph(SIZE)], targets, [0], [SIZE])
    sides = {}
    for name, detector in (("without", bare), ("with", whole)):
        optimizer = build_optimizer(detector.train(), recipe.training)
        sides[name] = partial(
            training_step, detector, optimizer, batch, recipe.training, accelerator
        )
    rows = count_rows(whole, sides["with"])
    found = milliseconds(sides, rounds, warmup=1)
    return {**found, "ratio": found["with"] / found["without"], "rows": rows}


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
                found = compare_layer(count, arguments.rounds, back=kind == "and back")
                record[f"layer {count} {kind}"] = found
                print(
                    f"{count:5d} {kind:>8} {found['plain']:9.1f} {found['lazy']:9.1f} {found['ratio']:6.3f} "
                    f"{found['plain_multiply_adds']:14.1f} {found['lazy_multiply_adds']:6.1f} "
                    f"{found['pixels_of_a_cell']:17.2f}",
                    flush=True,
                )
    for name, compare in (("detector", compare_detector), ("training", compare_training)):
        if name in arguments.parts:
            found = record[name] = compare(arguments.candidates, arguments.rounds)
            met = "met" if found["ratio"] <= WIDEST[name] else "missed"
            print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()))
            print(f"  ratio {found['ratio']:.3f}, at most {WIDEST[name]:.2f}: {met}", flush=True)
    if arguments.out:
        write_json(
            arguments.out,
            {**provenance(0, None), "threads": torch.get_num_threads(), "figures": record},
        )


if __name__ == "__main__":
    main()
