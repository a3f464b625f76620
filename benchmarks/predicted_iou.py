"""Show what the head of IoU-Net predicts of a run's detections, and what moving them does.

    python benchmarks/predicted_iou.py RUN [--data FOLDER] [--split val] [--out FILE]

RUN has a trained head ``heads.iou``. The detections are those that IoU-guided NMS keeps. Those with
a score of at least 0.3 are grouped by their true IoU, that is the largest IoU with an object of
their class, from 0.5 on. Then come the figures of four rows: as IoU-guided NMS has left them, with
scores times the predicted IoU, with moved boxes, and with both, which is the row ``iou_net``.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from postnms.boxes import pairwise_iou
from postnms.cli.console import command_line
from postnms.cli.data import open_named_split
from postnms.data.layouts import canonical
from postnms.data.loader import Batch, DetectionData, batches
from postnms.detectors import Detector
from postnms.errors import UserError
from postnms.evaluation.columns import ResultColumns, Results, concatenate_columns, to_columns
from postnms.evaluation.metrics import coco_metrics
from postnms.files.atomic import write_json
from postnms.orders import sort_by_image
from postnms.rivals.config import IOU_GUIDED_ROW, IOU_NET_ROW
from postnms.rivals.iou_net import IoUHead
from postnms.runs.folder import RunFolder, read_recipe
from postnms.runs.loading import load_detector
from postnms.runs.provenance import provenance
from postnms.structures import Detections, Targets, derive, take

LEAST_SCORE = 0.3
"""Detections that score less are not grouped by their true IoU. Most of them have no object."""
EDGES = (0.5, 0.7, 0.8, 0.9, 1.0)
"""Limits of the groups of the true IoU. The last group has boxes with an IoU of 1 as well."""
SHOWN = ("AP", "AP50", "AP75")
"""The figures of each row that are printed."""


def main() -> None:
    arguments = _parse_arguments()
    torch.set_num_threads(1)
    run = RunFolder(arguments.run)
    recipe = read_recipe(run)
    split, data = open_named_split(run, recipe, arguments.data, canonical(arguments.split))
    ious, results = look(load_detector(run, recipe), split, recipe.evaluation.batch_size)
    groups = by_true_iou(ious)
    truth = split.dataset.truth
    rows = {name: coco_metrics(truth, columns) for name, columns in results.items()}
    print("true IoU     boxes  true, before and after   predicted, before and after")
    for group in groups:
        print("{from:.1f} to {to:.1f} {boxes:7d}  ".format(**group), end="")
        print("{true:.3f} {true_after:.3f} {predicted:18.3f} {predicted_after:.3f}".format(**group))
    for name, figures in rows.items():
        print(f"{name:28}", *(f"{figure} {figures[figure]:5.1f}" for figure in SHOWN), sep="  ")
    if arguments.out is not None:
        origin = provenance(recipe.seed, data, command_line())
        write_json(arguments.out, {**origin, "run": run.root.name, "groups": groups, "rows": rows})


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


@torch.no_grad()
def look(detector: Detector, split: DetectionData, batch_size: int) -> tuple[Tensor, Results]:
    """Return the IoUs of the detections of a split, and the results of the four rows.

    The IoUs are (r, 4) for r detections that score enough: the true one and the predicted one, both
    before the box is moved, then both after it.
    """
    head = detector.heads.iou if detector.heads else None
    if head is None or not head.config.refine_steps:
        raise UserError("expected a run with heads.iou that moves boxes, got one without")
    ious: list[Tensor] = []
    columns: dict[str, list[ResultColumns]] = defaultdict(list)
    category_ids = [category.id for category in split.dataset.categories]
    for batch in batches(split, range(len(split)), batch_size):
        rows = _rows(detector, head, batch)
        for name, detections in rows.items():
            columns[name].append(
                to_columns(detections, batch.image_ids, batch.to_original, category_ids)
            )
        ious.append(_ious(rows, batch.targets))
    return torch.cat(ious), {
        name: concatenate_columns(parts, category_ids) for name, parts in columns.items()
    }


def _rows(detector: Detector, head: IoUHead, batch: Batch) -> Mapping[str, Detections]:
    """Return the detections of the four rows for a batch."""
    found = detector(batch.images).rows
    kept, both = (_by_candidate(found[name]) for name in (IOU_GUIDED_ROW, IOU_NET_ROW))
    scored = derive(kept, scores=kept.scores * kept.extra["iou"])
    moved = derive(both, scores=kept.scores)
    return {
        "IoU-guided NMS": kept,
        "scores times predicted IoU": _by_score(scored),
        "boxes moved": _by_score(moved),
        "both": both,
    }


def _by_candidate(detections: Detections) -> Detections:
    """Return detections in an order that does not depend on their scores and boxes."""
    order = np.lexsort([detections.labels, detections.source, detections.image])
    return take(detections, torch.from_numpy(order))


def _by_score(detections: Detections) -> Detections:
    return take(detections, sort_by_image(detections.scores, detections.image))


def _ious(rows: Mapping[str, Detections], targets: Targets) -> Tensor:
    """Return the IoUs of a batch as :func:`look` does."""
    kept, both = (_by_candidate(rows[name]) for name in ("IoU-guided NMS", "both"))
    same_image = kept.image[:, None] == targets.image
    possible = same_image & (kept.labels[:, None] == targets.labels) & ~targets.crowd
    before, after = (
        pairwise_iou(row.boxes, targets.boxes).masked_fill(~possible, 0) for row in (kept, both)
    )
    if not before.shape[1]:
        return kept.boxes[:0]
    true, truth = before.max(dim=1)
    true_after = after.gather(1, truth[:, None]).squeeze(1)
    columns = [true, kept.extra["iou"], true_after, both.scores / kept.scores]
    counts = (kept.scores >= LEAST_SCORE) & (true >= EDGES[0])
    return torch.stack(columns, dim=1)[counts]


def by_true_iou(ious: Tensor) -> list[dict[str, float]]:
    """Return the number of boxes and their mean IoUs for each group of the true IoU, and for all.

    ``ious`` is that of :func:`look`.
    """
    groups = []
    for begin, end in [*pairwise(EDGES), (EDGES[0], EDGES[-1])]:
        inside = (ious[:, 0] >= begin) & ((ious[:, 0] < end) | (end == EDGES[-1]))
        names = ("true", "predicted", "true_after", "predicted_after")
        means = ious[inside].double().mean(dim=0).tolist()
        group = dict(zip(names, means, strict=True))
        groups.append({"from": begin, "to": end, "boxes": int(inside.sum()), **group})
    return groups


if __name__ == "__main__":
    main()
