"""``python -m handbook.method_figure``: draw ``docs/explanation/method.png``.

A built-in scene is drawn three times: with candidates, with their clusters, and with what the stage
is given. The candidates are made up: each object has some boxes near it, with better scores for
better boxes. No detector is trained for it. Below is the way of the data as boxes and arrows.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from postnms import Candidates, Clusters, cluster, representative_boxes
from postnms.boxes import clip
from postnms.data import ScenesConfig, scenes_dataset
from postnms.drawing.boxes import PALETTE
from postnms.drawing.charts import save_chart

OUT = Path(__file__).parents[1] / "docs" / "explanation" / "method.png"
SEED = 1
SCENES = ScenesConfig(train=0, val=1, size=96, objects=(6, 6), radius=(0.13, 0.19))
BOXES_OF_AN_OBJECT = 6
STEPS = (
    "image",
    "features",
    "candidates",
    "clusters",
    "objectness,\nrefinement",
    "detections",
)
"""What the data is at each step of the way."""
BETWEEN = ("backbone", "detector", "NMS", "stage", "fusion")
"""What turns each step into the next one."""


def made_up_candidates(boxes: NDArray, labels: NDArray, size: int, seed: int) -> Candidates:
    """Return boxes near the objects: the further from its object, the lower is a box's score."""
    random = np.random.default_rng(seed)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    near, scores = [], []
    for number in range(BOXES_OF_AN_OBJECT):
        spread = 0.03 + 0.025 * number
        near.append(boxes + random.normal(0, spread, boxes.shape) * sides)
        scores.append(0.95 - 0.1 * number - random.uniform(0, 0.08, len(boxes)))
    moved = clip(torch.from_numpy(np.concatenate(near)).float(), torch.tensor([size, size]))
    count = len(moved)
    return Candidates(
        boxes=moved,
        scores=torch.from_numpy(np.concatenate(scores)).float(),
        labels=torch.from_numpy(np.tile(labels, BOXES_OF_AN_OBJECT)),
        image=torch.zeros(count, dtype=torch.int64),
        source=torch.arange(count),
        num_images=1,
    )


def draw(out: Path) -> Clusters:
    """Draw the figure into a file, and return the clusters that it shows."""
    record = scenes_dataset(SCENES, SEED, "val").records[0]
    candidates = made_up_candidates(record.boxes, record.labels, SCENES.size, SEED)
    clusters = cluster(candidates, iou_threshold=0.5)
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    panels, way = figure.subfigures(2, 1, height_ratios=(3.4, 1))
    axes = panels.subplots(1, 3)
    titles = (
        f"{len(candidates.boxes)} candidates",
        f"{len(clusters.keys)} clusters: keys and their members",
        "keys and representative boxes (dashed)",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.imshow(record.pixels, alpha=0.55)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    colours = [PALETTE[number % len(PALETTE)] for number in clusters.assignment.tolist()]
    keys = clusters.keys.tolist()
    for row, box in enumerate(candidates.boxes.tolist()):
        _box(axes[0], box, edgecolor="black", linewidth=0.8)
        is_key = row in keys
        _box(axes[1], box, edgecolor=colours[row], linewidth=2.4 if is_key else 0.8)
    around = representative_boxes(clusters, "union").tolist()
    for number, (key, union) in enumerate(zip(keys, around, strict=True)):
        colour = PALETTE[number % len(PALETTE)]
        _box(axes[2], candidates.boxes[key].tolist(), edgecolor=colour, linewidth=2.4)
        _box(axes[2], union, edgecolor=colour, linewidth=1.4, linestyle="--")
    _draw_way(way.subplots())
    save_chart(figure, out)
    return clusters


def _box(axis: Any, box: list[float], **style: Any) -> None:
    left, top, right, bottom = box
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))


def _draw_way(axis: Any) -> None:
    """Draw the steps of the way, and the arrow from the features to the stage."""
    axis.set_xlim(-0.5, len(STEPS) - 0.5)
    axis.set_ylim(-1.2, 0.6)
    axis.set_axis_off()
    frame = {"boxstyle": "round,pad=0.4", "facecolor": "#E8F1F8", "edgecolor": "#0072B2"}
    for place, step in enumerate(STEPS):
        axis.text(place, 0, step, ha="center", va="center", fontsize=10, bbox=frame)
    arrow = {"arrowstyle": "->", "color": "#444444", "shrinkA": 0, "shrinkB": 0}
    for place, name in enumerate(BETWEEN):
        axis.annotate("", (place + 0.62, 0), (place + 0.38, 0), arrowprops=arrow)
        axis.text(place + 0.5, 0.32, name, ha="center", fontsize=9, color="#444444")
    bent = arrow | {"connectionstyle": "arc3,rad=0.12"}
    axis.annotate("", (3.5, -0.2), (1, -0.35), arrowprops=bent)
    note = "decoupling layer and RoIAlign: the only way back for the gradient of the stage"
    axis.text(2.25, -1.08, note, ha="center", fontsize=9, color="#444444")


if __name__ == "__main__":
    draw(OUT)
