"""A trained detector as two ONNX files around the NMS of another runtime.

The first gives the candidates of images and the features that the stage needs. The runtime's own
NMS chooses among the candidates. The second makes clusters around what it has kept, and runs the
stage on them. Both are parts of the path of :mod:`postnms.export.graph`.

B: images, n: candidates, k: keys, C: channels of a level.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from postnms.detectors import Detector
from postnms.errors import UserError
from postnms.export.graph import AfterNMS, BeforeNMS
from postnms.export.metadata import CANDIDATE_COLUMNS, INPUT, KEYS, SIZES, ExportMetadata
from postnms.export.onnx_model import SplitModel
from postnms.export.owners import clusters_of_keys
from postnms.export.program import AXES, example_images, to_onnx, trace, trace_any
from postnms.export.writer import check_network, metadata_of, write_onnx
from postnms.ops import cluster_nms
from postnms.prediction import Model
from postnms.structures import NMS_ROW, POST_NMS_ROW, Candidates

ROWS = (NMS_ROW, POST_NMS_ROW)
"""Rows that need no suppression after the stage."""
OTHER = "it needs a suppression after the stage, which files around NMS leave to the runtime"
"""Why there are no further rows."""
EXAMPLE = 50
"""Number of candidates that the second program is traced with. Any other number will do."""


class CandidatesGraph(nn.Module):
    """The program of the first file.

    Its input is that of :class:`~postnms.export.graph.DetectionGraph`. Its outputs are boxes (n, 4)
    float32 in pixels of the network's input, scores (n,) float32, labels (n,) int64 and image (n,)
    int64 of the candidates, the sizes (2, 2) int64 of
    :class:`~postnms.export.graph.BeforeNMS`, and the levels (B, C, H, W) of the stage.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.before = BeforeNMS(detector.network)
        self.levels = _levels(detector)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs."""
        features, found, sizes = self.before(images)
        columns = found.boxes, found.scores, found.labels, found.image
        return *columns, sizes, *(features[name] for name in self.levels)


class StageGraph(nn.Module):
    """The program of the second file.

    Its inputs are the outputs of the first one and ``keys`` (k,) int64, the rows of the candidates
    that NMS has kept; see :func:`~postnms.export.owners.clusters_of_keys`. Its outputs are those of
    :class:`~postnms.export.graph.DetectionGraph`.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.after = AfterNMS(detector, ROWS)
        self.levels = _levels(detector)
        self.nms_threshold = detector.network.nms_threshold

    def forward(
        self,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        image: Tensor,
        sizes: Tensor,
        levels: list[Tensor],
        keys: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the columns of both rows."""
        features = dict(zip(self.levels, levels, strict=True))
        count = levels[0].shape[0]
        # No row has the source of its candidates.
        candidates = Candidates(boxes, scores, labels, image, torch.zeros_like(image), count)
        clusters = clusters_of_keys(candidates, keys, self.nms_threshold)
        return self.after(features, clusters, sizes)


def _levels(detector: Detector) -> tuple[str, ...]:
    assert detector.stage is not None
    return tuple(detector.stage.levels)


def part_paths(path: Path) -> tuple[Path, Path]:
    """Return the two files for a name: ``model.onnx`` gives ``model.candidates.onnx`` and another.

    Example:
        >>> from pathlib import Path
        >>> from postnms.export.around_nms import part_paths
        >>> [path.name for path in part_paths(Path("model.onnx"))]
        ['model.candidates.onnx', 'model.stage.onnx']
    """
    first, second = (path.with_suffix(f".{part}{path.suffix}") for part in ("candidates", "stage"))
    return first, second


def export_around_nms(model: Model, path: Path, provenance: dict[str, Any]) -> ExportMetadata:
    """Write a model as two ONNX files, which :func:`part_paths` names.

    ``path`` and ``provenance`` are as in :func:`postnms.export.writer.export`. Returns what both
    files say of themselves, but for their part.

    Raises UserError if the model has no stage, cannot be exported, or cannot be written.
    """
    check_network(model)
    if model.detector.stage is None:
        raise UserError(
            "expected a detector with a stage for two files around NMS, got one without"
        )
    about = metadata_of(model, "onnx", provenance)
    others = {name: OTHER for name in model.detector.row_names if name not in ROWS}
    about = dataclasses.replace(about, rows=ROWS, left_out={**others, **about.left_out})
    images = example_images(about.input_size[0])
    first, second = part_paths(path)
    _write_candidates(model.detector, images, first, dataclasses.replace(about, part="candidates"))
    _write_stage(model.detector, images, second, dataclasses.replace(about, part="stage"))
    return about


def _write_candidates(
    detector: Detector, images: Tensor, path: Path, about: ExportMetadata
) -> None:
    graph = CandidatesGraph(detector)
    axes: dict[int, str] = dict(zip((0, 2, 3), AXES, strict=True))
    outputs = _axes_of_parts(len(graph.levels))
    program = trace(graph, images)
    made = to_onnx(program, [INPUT], list(outputs), [axes], list(outputs.values()))
    write_onnx(made, path, about)


def _write_stage(detector: Detector, images: Tensor, path: Path, about: ExportMetadata) -> None:
    graph = StageGraph(detector)
    inputs = {**_axes_of_parts(len(graph.levels)), KEYS: {0: "keys"}}
    with torch.no_grad():
        found = CandidatesGraph(detector).eval()(images)
    first_level = len(CANDIDATE_COLUMNS) + 1
    sizes, levels = found[first_level - 1], list(found[first_level:])
    columns = _example_candidates(images)
    keys = torch.arange(0, EXAMPLE, 3)
    rows = {0: Dim.DYNAMIC}
    of_levels = [{0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC} for _ in levels]
    program = trace_any(
        graph, (*columns, sizes, levels, keys), (*[rows] * len(columns), {}, of_levels, rows)
    )
    write_onnx(to_onnx(program, list(inputs), about.outputs, list(inputs.values())), path, about)


def _example_candidates(images: Tensor) -> tuple[Tensor, ...]:
    """Return candidates to trace a program with, whatever the network finds in the images."""
    boxes = torch.tensor([[8.0, 8, 40, 40]]).repeat(EXAMPLE, 1)
    numbers = torch.arange(EXAMPLE)
    return boxes, numbers / EXAMPLE, numbers % 2, numbers % images.shape[0]


def _axes_of_parts(levels: int) -> dict[str, dict[int, str]]:
    """Return the names of what the first file gives the second, and of their dynamic axes."""
    axes: dict[str, dict[int, str]] = {name: {0: "candidates"} for name in CANDIDATE_COLUMNS}
    of_levels = {
        f"level_{index}": {0: "batch", 2: f"height_{index}", 3: f"width_{index}"}
        for index in range(levels)
    }
    return {**axes, SIZES: {}, **of_levels}


def open_around_nms(candidates: Path, stage: Path, *, threads: int | None = None) -> SplitModel:
    """Return the model of two files with the NMS of this library between them.

    ``threads`` is that of :class:`~postnms.export.onnx_model.SplitModel`.

    Raises UserError if they cannot be read.
    """

    def nms(boxes: Any, scores: Any, groups: Any, iou_threshold: float) -> Any:
        first, second, third = (torch.from_numpy(column) for column in (boxes, scores, groups))
        return cluster_nms(first, second, third, iou_threshold)[0].numpy()

    return SplitModel(candidates, stage, nms=nms, threads=threads)
