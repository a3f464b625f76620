"""Time ``postnms.suppress`` on plain arrays beside ensemble-boxes and torchvision.

    python benchmarks/arrays.py [--rounds 15] [--boxes 2000] [--classes 5]

It prints milliseconds and ratios. Both sides have one thread and take turns. Conversion between
kinds of arrays is part of the time. ensemble-boxes takes lists of boxes in [0, 1].
"""

import argparse

import numba
import numpy as np
import torch
from ensemble_boxes import soft_nms, weighted_boxes_fusion
from torchvision.ops import batched_nms

from postnms import suppress
from postnms.speed.timing import milliseconds
from replay import crowded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--boxes", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    print(f"{'method':10} {'boxes':>6} {'peer':16} {'here':>9} {'peer':>9}  ratio")
    boxes, scores, labels = image(arguments.boxes, arguments.classes)
    unit = boxes / boxes.max()
    lists = ([unit], [scores], [labels])
    peers = {
        "soft_nms": lambda: soft_nms(*lists, method="linear", iou_thr=0.3, thresh=0.001),
        "wbf": lambda: weighted_boxes_fusion(*lists, iou_thr=0.55),
    }
    for method, peer in peers.items():
        sides = {"here": lambda m=method: suppress(boxes, scores, labels, method=m), "peer": peer}
        show(method, arguments.boxes, "ensemble-boxes", milliseconds(sides, arguments.rounds))
    for count in (100, 500, 1000, 5000, 20000):
        arrays = image(count, arguments.classes)
        tensors = tuple(torch.from_numpy(array) for array in arrays)
        tensors = (tensors[0].float(), tensors[1].float(), tensors[2])
        sides = {
            "here": lambda t=tensors: suppress(*t).index,
            "peer": lambda t=tensors: batched_nms(*t, 0.5),
        }
        show("nms", count, "torchvision", milliseconds(sides, arguments.rounds))


def image(count: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return crowded boxes, scores and labels of one image."""
    found = crowded(1, count, classes, torch.Generator().manual_seed(0))
    boxes = found.boxes.double().numpy()
    # ensemble-boxes warns of coordinates below 0.
    return boxes - boxes.min(), found.scores.double().numpy(), found.labels.numpy()


def show(method: str, count: int, peer: str, spent: dict[str, float]) -> None:
    here, there = spent["here"], spent["peer"]
    print(f"{method:10} {count:6} {peer:16} {here:9.3f} {there:9.3f}  {there / here:5.1f}")


if __name__ == "__main__":
    main()
