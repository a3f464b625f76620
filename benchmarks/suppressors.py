"""Time suppressors beside public implementations of the same methods, which are called peers.

    python benchmarks/suppressors.py [--rounds 15] [--boxes 1000]

It prints milliseconds and ratios. Both sides have one thread and take turns. The peers are
ensemble-boxes, openvino and ultralytics if they are installed, and code in plain numpy and numba,
which follows the definition of each method.

All suppress the boxes of one class in one image. This is the hardest case, because each box can
overlap each other one. The number of boxes that each side keeps is printed too, but it checks
nothing: the tests do that.
"""

import argparse
import importlib.util
from collections.abc import Callable

import numba
import numpy as np
import torch

from postnms.speed.timing import milliseconds
from postnms.suppression import get_suppressor
from replay import crowded

Peer = Callable[[np.ndarray, np.ndarray], object]


def numpy_iou(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the IoU of each of n boxes with each of m boxes: (n, m)."""
    low = np.maximum(boxes[:, None, :2], other[:, :2])
    high = np.minimum(boxes[:, None, 2:], other[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    area, other_area = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes, other))
    return shared / (area[:, None] + other_area - shared)


def numpy_soft(boxes: np.ndarray, scores: np.ndarray, method: str) -> int:
    """Return the number of boxes that Soft-NMS keeps, in numpy. ``method``: linear or gaussian."""
    scores = scores.copy()
    kept = 0
    alive = np.arange(len(scores))
    while len(alive):
        best = alive[np.argmax(scores[alive])]
        kept += 1
        alive = alive[alive != best]
        iou = numpy_iou(boxes[best : best + 1], boxes[alive])[0]
        scores[alive] *= (
            np.exp(-(iou**2) / 0.5) if method == "gaussian" else np.where(iou > 0.3, 1 - iou, 1)
        )
        alive = alive[scores[alive] >= 0.001]
    return kept


def numpy_fast(boxes: np.ndarray, scores: np.ndarray) -> int:
    """Return the number of boxes that Fast NMS keeps, in numpy."""
    order = np.argsort(-scores, kind="stable")
    iou = np.triu(numpy_iou(boxes[order], boxes[order]), 1)
    return int((iou.max(axis=0) <= 0.5).sum())


def numpy_matrix(boxes: np.ndarray, scores: np.ndarray) -> int:
    """Return the number of boxes that Gaussian Matrix NMS keeps, in numpy."""
    order = np.argsort(-scores, kind="stable")
    iou = np.triu(numpy_iou(boxes[order], boxes[order]), 1)
    worst = iou.max(axis=0)[:, None]
    decay = np.exp(2 * (worst**2 - iou**2)).min(axis=0)
    return int((scores[order] * np.minimum(decay, 1) >= 0.001).sum())


def ensemble_soft(method: int) -> Peer:
    """Return the Soft-NMS of ensemble-boxes. ``method``: 1 is linear, 2 is Gaussian.

    The package has it in plain numpy. Only its greedy NMS is compiled by numba.
    """
    from ensemble_boxes.ensemble_boxes_nms import cpu_soft_nms_float

    return lambda boxes, scores: len(
        cpu_soft_nms_float(boxes.copy(), scores.copy(), 0.3, 0.5, 0.001, method)
    )


@numba.njit
def numba_soft(
    boxes: np.ndarray, scores: np.ndarray, gaussian: bool
) -> int:  # pragma: no cover: compiled
    """Return the number of boxes that Soft-NMS keeps: plain loops that numba compiles."""
    scores = scores.copy()
    alive = np.ones(len(scores), np.bool_)
    kept = 0
    while True:
        best = -1
        for i in range(len(scores)):
            if alive[i] and (best < 0 or scores[i] > scores[best]):
                best = i
        if best < 0 or scores[best] < 0.001:
            return kept
        kept += 1
        alive[best] = False
        area = (boxes[best, 2] - boxes[best, 0]) * (boxes[best, 3] - boxes[best, 1])
        for i in range(len(scores)):
            if alive[i]:
                width = min(boxes[i, 2], boxes[best, 2]) - max(boxes[i, 0], boxes[best, 0])
                height = min(boxes[i, 3], boxes[best, 3]) - max(boxes[i, 1], boxes[best, 1])
                if width > 0 and height > 0:
                    other = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
                    iou = width * height / (area + other - width * height)
                    if gaussian:
                        scores[i] *= np.exp(-(iou * iou) / 0.5)
                    elif iou > 0.3:
                        scores[i] *= 1 - iou


def ensemble_wbf(boxes: np.ndarray, scores: np.ndarray) -> int:
    """Return the number of boxes that the WBF of ensemble-boxes gives.

    The package takes coordinates in [0, 1].
    """
    from ensemble_boxes import weighted_boxes_fusion

    return len(
        weighted_boxes_fusion(
            [boxes / 2000 + 0.3], [scores], [np.zeros(len(scores))], iou_thr=0.55
        )[0]
    )


def ensemble_nmw(boxes: np.ndarray, scores: np.ndarray) -> int:
    """Return the number of boxes that the NMW of ensemble-boxes gives."""
    from ensemble_boxes import non_maximum_weighted

    return len(
        non_maximum_weighted([boxes / 2000 + 0.3], [scores], [np.zeros(len(scores))], iou_thr=0.55)[
            0
        ]
    )


def openvino_matrix(boxes: np.ndarray, scores: np.ndarray) -> Peer:
    """Return MatrixNms of OpenVINO on one thread of the CPU, compiled for this number of boxes."""
    import openvino
    from openvino import opset8

    count = len(scores)
    inputs = [
        opset8.parameter([1, count, 4], np.float32),
        opset8.parameter([1, 1, count], np.float32),
    ]
    node = opset8.matrix_nms(
        *inputs,
        sort_result_type="score",
        nms_top_k=-1,
        keep_top_k=-1,
        background_class=-1,
        decay_function="gaussian",
        gaussian_sigma=2.0,
        post_threshold=0.001,
    )
    model = openvino.Model([node.output(i) for i in range(3)], inputs, "matrix_nms")
    hints = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    request = compiled.create_infer_request()

    def call(boxes: np.ndarray, scores: np.ndarray) -> int:
        outputs = request.infer([boxes[None], scores[None, None]])
        return int(list(outputs.values())[2].sum())

    return call


def ultralytics_fast(boxes: np.ndarray, scores: np.ndarray) -> int:
    """Return the number of boxes that the Fast NMS of ultralytics keeps."""
    from ultralytics.utils.nms import TorchNMS

    return len(TorchNMS.fast_nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.5))


def peers(boxes: np.ndarray, scores: np.ndarray) -> dict[str, dict[str, Peer]]:
    """Return the peers of each suppressor by name. A peer returns the number of kept boxes."""
    installed = {
        name: importlib.util.find_spec(name) is not None for name in ("openvino", "ultralytics")
    }
    table: dict[str, dict[str, Peer]] = {
        "soft_nms_linear": {
            "numpy": lambda b, s: numpy_soft(b, s, "linear"),
            "ensemble-boxes": ensemble_soft(1),
            "numba, plain loops": lambda b, s: numba_soft(b, s, False),
        },
        "soft_nms_gaussian": {
            "numpy": lambda b, s: numpy_soft(b, s, "gaussian"),
            "ensemble-boxes": ensemble_soft(2),
            "numba, plain loops": lambda b, s: numba_soft(b, s, True),
        },
        "matrix_nms_gaussian": {"numpy": numpy_matrix},
        "fast_nms": {"numpy": numpy_fast},
        "wbf": {"ensemble-boxes": ensemble_wbf},
        "nmw": {"ensemble-boxes": ensemble_nmw},
    }
    if installed["openvino"]:
        table["matrix_nms_gaussian"]["openvino"] = openvino_matrix(boxes, scores)
    if installed["ultralytics"]:
        table["fast_nms"]["ultralytics"] = ultralytics_fast
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--boxes", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    candidates = crowded(1, given.boxes, 1, torch.Generator().manual_seed(0))
    boxes = candidates.boxes.numpy()
    scores = candidates.scores.numpy()
    print(
        f"{'suppressor':20s} {'peer':26s} {'ours ms':>9s} {'peer ms':>9s} {'ratio':>7s} "
        f"{'kept':>5s} {'peer':>5s}"
    )
    for name, table in peers(boxes, scores).items():
        suppressor = get_suppressor(f"{name}:max_detections={given.boxes}")
        for peer, call in table.items():
            sides = {
                "ours": lambda s=suppressor: s(candidates),
                "theirs": lambda c=call: c(boxes, scores),
            }
            times = milliseconds(sides, given.rounds)
            kept = f"{len(suppressor(candidates).scores):5d} {call(boxes, scores):5d}"
            ratio = times["theirs"] / times["ours"]
            print(
                f"{name:20s} {peer:26s} {times['ours']:9.2f} {times['theirs']:9.2f} "
                f"{ratio:7.1f} {kept}"
            )


if __name__ == "__main__":
    main()
