"""Train the stage on a frozen NanoDet-Plus with a few hundred images, and measure what it brings.

    python benchmarks/frozen_detector.py --model FOLDER --data FOLDER --out FOLDER

``--model`` is a folder with ``MODULE``, a file of the user with a class ``NanoDetPlus`` that has
``from_file``, and its ``WEIGHTS``. ``benchmarks/nanodet_plus.py`` says what the class must give.
``--data`` is a folder with a train and a val split whose classes are those of COCO.

1. Each of ``SETTINGS`` is trained on two thirds of the training images and measured on the other
   third, in turn. The detections of the three thirds are measured together, for each seed.
2. The pair of a setting and a use with the best mean AP is chosen. It and the pairs of ``ALWAYS``
   are trained on all training images, and val is looked at once.

Feature maps and candidates of all images are computed once and held in memory, about 2 MB for each
image. Two tables are printed, and ``frozen_detector.json`` has all figures.
"""

import argparse
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from gain_table import Table
from nanodet_plus import NanoDetPlusNetwork
from postnms import (
    Candidates,
    Clusters,
    Detections,
    PostNMSStage,
    StageConfig,
    Targets,
    cluster,
    get_suppressor,
    limit,
)
from postnms.boxes import clip, decode_deltas, encode_deltas
from postnms.cli.console import command_line
from postnms.data.config import DataConfig
from postnms.data.dataset import Truth
from postnms.data.loader import DetectionData, batches
from postnms.data.splits import open_splits
from postnms.detectors.image_batch import to_network
from postnms.evaluation.results import Result, to_results
from postnms.files.atomic import write_json
from postnms.runs.provenance import provenance
from postnms.stage.judged import Judged, keys_alone
from postnms.stage.training_rows import training_rows
from postnms.structures import join_images, of_image

MODULE = "nanodet_plus.py"
WEIGHTS = "nanodet-plus-m-1.5x_416.safetensors"
SIDE = 480
"""Longer side in pixels to which images are read. Those of coco_open have this size."""
SEEDS = (0, 1, 2)
FOLDS = 3
BATCH = 8
LR = 3e-4
NMS = "nms:iou=0.6"
"""The baseline: greedy NMS with the threshold of the detector."""
HEURISTICS = ("soft_nms_linear:iou=0.6", "cluster_nms_weighted:iou=0.6", "box_voting:iou=0.6")
USES = {
    "moved": StageConfig(fusion=(1, 0, 0)),
    "scored": StageConfig(fusion=(0.9, 0, 0.1), relocation=False),
    "both": StageConfig(fusion=(0.8, 0.1, 0.1)),
}
"""Ways to use a trained stage: its boxes with the detector's scores, a little of its scores with
the detector's boxes, and both as in the paper."""


@dataclass(frozen=True)
class Setting:
    """How a stage is built, trained and used."""

    stage: StageConfig
    steps: int = 50
    uses: tuple[str, ...] = ("moved", "scored", "both")
    from_median: bool = False
    """Whether the refinement starts with the median move of the training candidates. With 0 steps
    these four numbers are all that is learned: every box is moved by the same share of its side."""


def small(**changes: Any) -> StageConfig:
    """Return a stage of few parameters that does not see the class."""
    few = {"width": 64, "max_candidates": 128, "decoupling": False, "encoding": "none", "beta": 1.0}
    return StageConfig(**few | changes)


SETTINGS = {
    "four numbers": Setting(small(), 0, ("moved",), from_median=True),
    "small": Setting(small()),
    "small from four numbers": Setting(small(), from_median=True),
    "small, 200 steps": Setting(small(), 200),
    "small, objectness iou": Setting(small(objectness="iou"), uses=("scored",)),
    "small, class encoding": Setting(small(encoding="add")),
    "small, no clusters": Setting(small(clusters=False)),
}
"""The settings that are compared on the training images."""
PAPER = Setting(StageConfig(width=256, max_candidates=128, beta=1.0), 100)
"""The stage of the paper, too large to be trained for each fold on a CPU."""
ALWAYS = ("four numbers: moved", "small: moved", "paper: moved", "paper: both")
"""Settings and uses that are measured on val, whatever is chosen."""


@dataclass(frozen=True)
class Frozen:
    """What the frozen network gives for one image, and the truth, in pixels of its input."""

    levels: dict[str, Tensor]
    candidates: Candidates
    targets: Targets
    image_id: Any
    to_original: Tensor
    """(2,): factors of x and y from the network's input to the original image."""


class Study:
    """A trained network, and the stages that are put on it."""

    def __init__(self, network: NanoDetPlusNetwork, category_ids: Sequence[int]) -> None:
        self.network = network
        self.category_ids = category_ids

    @torch.no_grad()
    def frozen(self, data: DetectionData) -> list[Frozen]:
        """Run the network on all images of a split."""
        found = []
        for batch in batches(data, range(len(data)), BATCH):
            images = self.network.prepare(batch.images)
            features = self.network.features(images)
            candidates, _ = self.network.candidates(features, images)
            truth = to_network(batch.targets, images, self.network.num_classes)
            factors = batch.to_original / images.from_given
            for row, image_id in enumerate(batch.image_ids):
                levels = {name: features[name][row].clone() for name in self.network.levels}
                parts = of_image(candidates, row), of_image(truth, row)
                found.append(Frozen(levels, *parts, image_id, factors[row]))
        return found

    def train(self, images: Sequence[Frozen], setting: Setting, seed: int) -> PostNMSStage:
        """Train a stage on some images, with AdamW and half a cosine wave."""
        torch.manual_seed(seed)
        order = _endless(np.random.default_rng(seed), len(images))
        config = setting.stage
        stage = PostNMSStage(config, self.network.levels, self.network.num_classes).train()
        if setting.from_median:
            torch.nn.init.zeros_(stage.heads.refinement.weight)
            stage.heads.refinement.bias.data.copy_(self._median_move(images, config))
        optimizer = torch.optim.AdamW(stage.parameters(), LR)
        schedule = CosineAnnealingLR(optimizer, max(setting.steps, 1))
        for _ in range(setting.steps):
            batch = [images[next(order)] for _ in range(BATCH)]
            clusters = self._clusters(batch, config.max_candidates)
            losses = stage.losses(_features(batch), clusters, _targets(batch))
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            schedule.step()
        return stage.eval()

    def _median_move(self, images: Sequence[Frozen], config: StageConfig) -> Tensor:
        """Return the median deltas (4,) from candidates to the objects that they overlap."""
        clusters = self._clusters(images, config.max_candidates)
        own = config.model_copy(update={"clusters": False})
        rows = training_rows(clusters, _targets(images), own)
        boxes = rows.boxes[: len(rows.truths)]
        return encode_deltas(boxes, rows.truths, config.delta_weights).median(dim=0).values

    @torch.no_grad()
    def detect(
        self, images: Sequence[Frozen], stage: PostNMSStage, uses: Sequence[str]
    ) -> dict[str, list[Result]]:
        """Return the results of each use of a stage. Its networks look at each box once."""
        results: dict[str, list[Result]] = {name: [] for name in uses}
        for part in _parts(images):
            looked = keys_alone(self._clusters(part), stage.config, self.network.max_detections)
            boxes = looked.candidates.boxes
            columns = (looked.boxes, looked.image, looked.labels)
            logits, deltas = stage(_features(part), *columns, refined=len(boxes))
            sizes = torch.tensor([self.network.side, self.network.side]).expand(len(boxes), 2)
            moved = clip(decode_deltas(boxes, deltas, stage.config.delta_weights), sizes)
            for name in uses:
                use = USES[name]
                judged = Judged(looked, logits.sigmoid(), moved if use.relocation else boxes, use)
                results[name] += self._results(judged.detections(), part)
        return results

    def cross_validated(
        self, images: Sequence[Frozen], setting: Setting, seed: int
    ) -> dict[str, list[Result]]:
        """Return results of all images, each by a stage that was trained without its fold."""
        order = np.random.default_rng(0).permutation(len(images))
        results: dict[str, list[Result]] = {name: [] for name in setting.uses}
        for aside in np.array_split(order, FOLDS):
            others = [images[row] for row in order if row not in aside]
            stage = self.train(others, setting, seed)
            found = self.detect([images[row] for row in aside], stage, setting.uses)
            for name, part in found.items():
                results[name] += part
        return results

    def table(self, title: str, truth: Truth, images: Sequence[Frozen]) -> Table:
        """Return a table that starts with the suppressors on the candidates of the network."""
        table = Table(title, truth)
        for name in (NMS, *HEURISTICS):
            results = []
            for part in _parts(images):
                kept = get_suppressor(name)(self._clusters(part).candidates)
                results += self._results(kept, part)
            table.add(name, [results])
        return table

    def _clusters(self, images: Sequence[Frozen], most: int | None = None) -> Clusters:
        """Return the clusters of the ``most`` best candidates of each image. None: of all."""
        candidates = join_images([image.candidates for image in images])
        return cluster(limit(candidates, most), self.network.nms_threshold)

    def _results(self, found: Detections, part: Sequence[Frozen]) -> list[Result]:
        factors = torch.stack([image.to_original for image in part])
        return to_results(found, [image.image_id for image in part], factors, self.category_ids)


def _parts(images: Sequence[Frozen]) -> list[Sequence[Frozen]]:
    return [images[start : start + BATCH] for start in range(0, len(images), BATCH)]


def _endless(random: np.random.Generator, count: int) -> Iterator[int]:
    """Yield one random permutation of 0..count-1 after another."""
    while True:
        yield from random.permutation(count).tolist()


def _features(images: Sequence[Frozen]) -> dict[str, Tensor]:
    names = images[0].levels
    return {name: torch.stack([image.levels[name] for image in images]) for name in names}


def _targets(images: Sequence[Frozen]) -> Targets:
    parts = [image.targets for image in images]
    columns = ("boxes", "labels", "crowd")
    boxes, labels, crowd = (torch.cat([getattr(p, name) for p in parts]) for name in columns)
    counts = torch.tensor([len(part.labels) for part in parts])
    image = torch.arange(len(parts)).repeat_interleave(counts)
    return Targets(boxes, labels, image, crowd, num_images=len(parts))


def load_network(folder: Path) -> NanoDetPlusNetwork:
    """Return the network of the user's module and weights."""
    spec = importlib.util.spec_from_file_location("users_module", folder / MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return NanoDetPlusNetwork(module.NanoDetPlus.from_file(folder / WEIGHTS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--model", "--data", "--out"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    splits = open_splits(DataConfig(workers=0), arguments.data, (SIDE, SIDE))
    categories = [category.id for category in splits.train.dataset.categories]
    study = Study(load_network(arguments.model), categories)
    train, val = study.frozen(splits.train), study.frozen(splits.val)
    folds = study.table("train, in folds", splits.train.dataset.truth, train)
    for name, setting in SETTINGS.items():
        found = [study.cross_validated(train, setting, seed) for seed in SEEDS]
        folds.add_uses(name, found)
    trained = [name for name in folds.rows if name not in (NMS, *HEURISTICS)]
    best = max(trained, key=lambda name: folds.rows[name]["gain"])
    once = study.table("val", splits.val.dataset.truth, val)
    for name, setting in {**SETTINGS, "paper": PAPER}.items():
        uses = [use for use in setting.uses if f"{name}: {use}" in (best, *ALWAYS)]
        if uses:
            stages = [study.train(train, setting, seed) for seed in SEEDS]
            once.add_uses(name, [study.detect(val, stage, uses) for stage in stages])
    about = provenance(SEEDS[0], arguments.data, command_line())
    write_json(
        arguments.out / "frozen_detector.json",
        {**about, "seeds": SEEDS, "chosen": best, "train": folds.rows, "val": once.rows},
    )


if __name__ == "__main__":
    main()
