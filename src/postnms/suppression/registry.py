"""All suppressors by name, and how a user names one with other settings."""

from typing import Any

from postnms.config import json_or_text, nearest
from postnms.errors import UserError
from postnms.suppression.confluence import Confluence
from postnms.suppression.cp_cluster import CPCluster
from postnms.suppression.greedy import (
    AdaptiveNMS,
    DIoUNMS,
    GreedyNMS,
    IoUGuidedNMS,
    NoSuppression,
    SetNMS,
)
from postnms.suppression.matrix import ClusterNMS, FastNMS, MatrixNMS
from postnms.suppression.protocol import Suppressor
from postnms.suppression.soft import SoftNMS, VarianceVoting
from postnms.suppression.voting import NMW, WBC, BoxVoting, MergeNMS, NonMaxMerge
from postnms.suppression.weighted_fusion import WBF

SUPPRESSORS: dict[str, Suppressor] = {
    "none": NoSuppression(),
    "nms": GreedyNMS(),
    "nms_agnostic": GreedyNMS(class_agnostic=True),
    "nms_ios": GreedyNMS(overlap="ios"),
    "soft_nms_linear": SoftNMS(method="linear"),
    "soft_nms_gaussian": SoftNMS(method="gaussian"),
    "box_voting": BoxVoting(),
    "merge_nms": MergeNMS(),
    "nmw": NMW(),
    "wbf": WBF(),
    "wbc": WBC(),
    "non_max_merge": NonMaxMerge(),
    "non_max_merge_ios": NonMaxMerge(overlap="ios"),
    "diou_nms": DIoUNMS(),
    "fast_nms": FastNMS(),
    "cluster_nms": ClusterNMS(),
    "cluster_nms_distance": ClusterNMS(distance=True),
    "cluster_nms_penalty": ClusterNMS(score_penalty=True),
    "cluster_nms_weighted": ClusterNMS(weighted=True),
    "cluster_nms_all": ClusterNMS(score_penalty=True, distance=True, weighted=True),
    "matrix_nms_linear": MatrixNMS(method="linear"),
    "matrix_nms_gaussian": MatrixNMS(method="gaussian"),
    "set_nms": SetNMS(),
    "cp_cluster": CPCluster(),
    "confluence": Confluence(),
    "confluence_nms": Confluence(selection="score"),
    "adaptive_nms": AdaptiveNMS(),
    "iou_guided_nms": IoUGuidedNMS(),
    "variance_voting": VarianceVoting(),
}
"""With the defaults of their sources."""


def get_suppressor(text: str) -> Suppressor:
    """A suppressor from ``NAME`` or ``NAME:FIELD=VALUE:FIELD=VALUE``. Raises UserError that tells the nearest name."""
    name, *settings = text.split(":")
    if name not in SUPPRESSORS:
        raise UserError(f"suppressor: no {name!r} ({nearest(name, list(SUPPRESSORS))})")
    changes = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise UserError(
                f"suppressor {text!r}: expected FIELD=VALUE after the colon, got {setting!r}"
            )
        if full_name(field) in changes:
            raise UserError(f"suppressor {text!r}: {full_name(field)} is set twice")
        changes[full_name(field)] = json_or_text(value)
    return with_fields(name, SUPPRESSORS[name], changes)


def full_name(field: str) -> str:
    """``iou`` and ``score`` are short for ``iou_threshold`` and ``score_threshold``."""
    return {"iou": "iou_threshold", "score": "score_threshold"}.get(field, field)


def sets_field(text: str, field: str) -> bool:
    """Whether a name as of :func:`get_suppressor` sets the field."""
    return any(full_name(setting.partition("=")[0]) == field for setting in text.split(":")[1:])


def with_fields(name: str, suppressor: Suppressor, changes: dict[str, Any]) -> Suppressor:
    """The suppressor with some fields changed; ``name`` is what the user calls it."""
    return type(suppressor).parse(suppressor.model_dump(mode="json") | changes, name)
