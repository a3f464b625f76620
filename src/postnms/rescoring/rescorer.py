"""A trained rescorer: what it is, its file, and what it can be used on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from postnms.candidate_files.reader import CandidateFile
from postnms.data.formats.fields import is_text
from postnms.errors import UserError, shown
from postnms.files.state_dicts import load_weights
from postnms.files.tensor_files import load_tensors, save_tensors
from postnms.rescoring.config import CONFIGS, ContextualConfig, RescorerConfig, SCEConfig
from postnms.rescoring.contextual import ContextualNetwork
from postnms.rescoring.relation import RelationNetwork
from postnms.rescoring.sce import SCENetwork
from postnms.structures import BOX_FEATURES, NMS_ROW, Candidates, Detections
from postnms.suppression import get_suppressor

LARGEST_WIDTH = 1 << 16
"""Largest number of features of a box."""

RescoringNetwork = ContextualNetwork | SCENetwork | RelationNetwork


@dataclass(frozen=True)
class Rescorer:
    """A network that gives candidates new scores, and what it was trained on.

    Example:
        >>> import torch
        >>> from postnms import Candidates
        >>> from postnms.rescoring import ContextualConfig, Rescorer, build_network
        >>> config = ContextualConfig(hidden=8, layers=1, suppressor="nms")
        >>> rescorer = Rescorer(config, ("cell",), build_network(config, 1))
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
        >>> zeros = torch.zeros(2, dtype=torch.int64)
        >>> found = Candidates(boxes, torch.tensor([0.9, 0.8]), zeros, zeros, zeros, num_images=1)
        >>> rescorer(found, sizes=torch.tensor([[40.0, 60.0]])).scores.shape
        torch.Size([2])
    """

    config: RescorerConfig
    classes: tuple[str, ...]
    """Names of the K classes, in the order of the labels."""
    network: RescoringNetwork
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the training, which JSON can hold."""

    @property
    def kind(self) -> str:
        """``contextual``, ``sce`` or ``relation``."""
        return self.config.kind

    def __call__(self, candidates: Candidates, sizes: Tensor) -> Detections:
        """Return detections with new scores. Images do not influence each other.

        Args:
            candidates: those of B images, in any order, with labels 0..K-1 and the extra columns
                that the rescorer needs.
            sizes: (B, 2) float32, height and width of each image in pixels.

        Returns:
            Detections by image, then by falling score (ties: by the order of the candidates'
            scores).
        """
        with torch.no_grad():
            return self.network(candidates, sizes)

    def check_fits(self, file: CandidateFile) -> None:
        """Raise UserError unless a file has the classes and columns that the rescorer needs."""
        names = tuple(category.name for category in file.categories)
        if names != self.classes:
            raise UserError(
                f"{file.path}: classes: expected {shown(list(self.classes))}, those that the "
                f"rescorer was trained on, got {shown(list(names))}"
            )
        width = feature_width(self.config, file)
        if width != self.network.feature_width:
            raise UserError(
                f"{file.path}: {BOX_FEATURES}: expected {self.network.feature_width} numbers for "
                f"each candidate, as the rescorer was trained on, got {width}"
            )

    def save(self, path: Path) -> None:
        """Write the rescorer to a file, which :func:`load_rescorer` reads.

        Raises UserError if the operating system refuses.
        """
        about = {
            "rescorer": self.kind,
            "config": self.config.model_dump(mode="json"),
            "classes": list(self.classes),
            "feature_width": self.network.feature_width,
            "provenance": dict(self.provenance),
        }
        save_tensors(path, self.network.state_dict(), about)


def load_rescorer(path: Path) -> Rescorer:
    """Read a rescorer that :meth:`Rescorer.save` or ``postnms train-rescorer`` wrote.

    Raises UserError that names the file if it is missing, damaged or no rescorer.
    """
    expected = "expected a rescorer that 'postnms train-rescorer' has written"
    try:
        tensors, about = load_tensors(path)
    except UserError as error:
        raise UserError(f"{error}; {expected}") from error
    kind = about.get("rescorer")
    if not isinstance(kind, str) or kind not in CONFIGS:
        came = f"rescorer: {shown(kind)}" if "rescorer" in about else "other tensors"
        raise UserError(f"{path}: {expected}, got {came}")
    values = about.get("config")
    if not isinstance(values, dict):
        raise UserError(f"{path}: config: expected an object, got {shown(values)}")
    config = CONFIGS[kind].parse(values, f"{path}: config")
    classes, width = about.get("classes"), about.get("feature_width")
    if not isinstance(classes, list) or not classes or not all(map(is_text, classes)):
        raise UserError(f"{path}: classes: expected names, got {shown(classes)}")
    if type(width) is not int or not 0 <= width <= LARGEST_WIDTH:
        raise UserError(
            f"{path}: feature_width: expected an integer from 0 to {LARGEST_WIDTH}, "
            f"got {shown(width)}"
        )
    provenance = about.get("provenance")
    if not isinstance(provenance, dict):
        raise UserError(f"{path}: provenance: expected an object, got {shown(provenance)}")
    network = build_network(config, len(classes), width)
    load_weights(network, tensors, str(path))
    return Rescorer(config, tuple(classes), network, provenance)


def build_network(
    config: RescorerConfig, num_classes: int, feature_width: int = 0
) -> RescoringNetwork:
    """Return an untrained network.

    ``feature_width`` is the number of features of a box, 0 for a rescorer without features.
    """
    if isinstance(config, ContextualConfig):
        return ContextualNetwork(config, num_classes)
    if isinstance(config, SCEConfig):
        return SCENetwork(config, num_classes, feature_width)
    return RelationNetwork(config, feature_width)


def feature_width(config: RescorerConfig, file: CandidateFile) -> int:
    """Return the number of features of a box in a file, 0 for a rescorer that needs none.

    Raises UserError that names the file if it lacks a column that the rescorer needs.
    """
    if isinstance(config, ContextualConfig):
        try:
            get_suppressor(config.suppressor or NMS_ROW).check_columns(file.extra)
        except UserError as error:
            raise UserError(f"{file.path}: {error}") from error
        return 0
    if BOX_FEATURES not in file.extra:
        raise UserError(
            f"{file.path}: no column {BOX_FEATURES!r}, which {config.kind} needs; 'postnms dump "
            "RUN --features' writes it"
        )
    shape = file.part(0, 0)[0].extra[BOX_FEATURES].shape
    if len(shape) < 2 or not 0 < shape[1] <= LARGEST_WIDTH:
        raise UserError(
            f"{file.path}: {BOX_FEATURES}: expected 1 to {LARGEST_WIDTH} numbers for each "
            f"candidate, got the shape {tuple(shape)}"
        )
    return shape[1]
