"""Training of a rescorer on a file of candidates."""

from collections.abc import Mapping
from typing import Any

import torch

from postnms.candidate_files.reader import CandidateFile
from postnms.config import Progress, no_progress
from postnms.data.dataset import Truth
from postnms.errors import UserError
from postnms.files.atomic import hash_of
from postnms.rescoring.by_image import Material
from postnms.rescoring.config import ContextualConfig, RelationConfig, RescorerConfig, SCEConfig
from postnms.rescoring.contextual import ContextualNetwork
from postnms.rescoring.contextual_training import train_contextual
from postnms.rescoring.image_sizes import image_sizes
from postnms.rescoring.relation import RelationNetwork
from postnms.rescoring.relation_training import train_relation
from postnms.rescoring.rescorer import Rescorer, RescoringNetwork, build_network, feature_width
from postnms.rescoring.sce import SCENetwork
from postnms.rescoring.sce_training import train_sce
from postnms.rescoring.steps import seeded
from postnms.suppression import get_suppressor

NMS_THRESHOLD = 0.5
"""IoU threshold of the NMS whose detections are re-scored, if the file names no other one."""
_ORIGIN = ("split", "annotations_sha256", "weights_sha256", "results_sha256")
"""Facts about the candidates that are written to the rescorer."""


def train_rescorer(
    file: CandidateFile,
    truth: Truth,
    config: RescorerConfig,
    *,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    done: Progress = no_progress,
) -> Rescorer:
    """Train a rescorer on the candidates of the training images.

    Figures of images that a rescorer was trained on are too good. One seed gives one rescorer, on
    one thread of the CPU, and torch's global generator is left alone.

    Args:
        file: the candidates of the training split.
        truth: the annotations of their images, see
            :func:`postnms.candidate_files.open_truth`.
        config: the kind of rescorer and its settings.
        seed: decides the first weights and the order of the images, at least 0.
        provenance: further facts to write to the rescorer, which JSON can hold.
        done: called with the number of images of each step; all together they are
            ``config.passes`` times those of the file.

    Returns:
        The rescorer. Its classes are those of the file, and its provenance has the figures of the
        last epoch as ``last_epoch``, see :func:`train_sce` and its like.

    Raises:
        UserError: there is nothing to train on, the annotations have no image sizes, the file
            lacks a column, or training diverges. The message names the file, the field or the
            setting.
    """
    if not len(file):
        raise UserError(f"{file.path}: expected at least one image to train on, got none")
    if not file.num_candidates:
        raise UserError(f"{file.path}: expected at least one candidate to train on, got none")
    config = _with_suppressor(config, file)
    network, figures = _train_network(file, truth, config, seed, done)
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise UserError(f"training has diverged: a weight is not finite; lower lr of {config.lr:g}")
    origin = {name: file.provenance[name] for name in _ORIGIN if name in file.provenance}
    about = {"file": file.path.name, "sha256": hash_of(file.path), **origin}
    facts = {**(provenance or {}), "seed": seed, "candidates": about, "last_epoch": figures}
    classes = tuple(category.name for category in file.categories)
    return Rescorer(config, classes, network, facts)


def _train_network(
    file: CandidateFile, truth: Truth, config: RescorerConfig, seed: int, done: Progress
) -> tuple[RescoringNetwork, dict[str, float]]:
    """Return a trained network of the kind that the settings say, and figures of its last epoch."""
    classes, width = len(file.categories), feature_width(config, file)
    material = Material(file, truth, image_sizes(truth, file.image_ids))
    network = seeded(lambda: build_network(config, classes, width), seed)
    how = torch.Generator().manual_seed(seed), done
    match network, config:
        case ContextualNetwork(), ContextualConfig():
            figures = train_contextual(network, material, config, *how)
        case SCENetwork(), SCEConfig():
            figures = train_sce(network, material, config, *how)
        case RelationNetwork(), RelationConfig():
            figures = train_relation(network, material, config, *how)
        case _:
            raise AssertionError(f"a network of {config.kind} is a {type(network).__name__}")
    return network, figures


def _with_suppressor(config: RescorerConfig, file: CandidateFile) -> RescorerConfig:
    """Return the settings with the suppressor that they leave to the file."""
    if not isinstance(config, ContextualConfig) or config.suppressor is not None:
        return config
    threshold = file.provenance.get("nms_threshold", NMS_THRESHOLD)
    text = f"nms:iou_threshold={threshold!r}"
    try:
        get_suppressor(text)
    except UserError as error:
        raise UserError(f"{file.path}: provenance.nms_threshold: {error}") from error
    return config.model_copy(update={"suppressor": text})
