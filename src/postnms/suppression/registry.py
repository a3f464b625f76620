"""All suppressors by name, and how a user chooses one with other settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from postnms.suppression.merging import NonMaxMerge
from postnms.suppression.protocol import Suppressor
from postnms.suppression.soft import SoftNMS, VarianceVoting
from postnms.suppression.voting import NMW, WBC, BoxVoting, MergeNMS
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
    "cluster_nms_all": ClusterNMS(score_penalty=True, distance=True, weighted=True, beta=0.6),
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
"""The suppressors that ``postnms compare`` knows, with their default settings.

The docstring of each class names its source, and says where the source differs. Everywhere an
overlap equal to a threshold does not suppress, and equal scores go by the row."""

SHORT_NAMES = {"iou": "iou_threshold", "score": "score_threshold"}
"""Fields that a user may shorten, and their full names."""


@dataclass(frozen=True)
class Choice:
    """A suppressor as a user has chosen it."""

    name: str
    """The text that chose it, which also names its row in tables."""
    family: str
    """Its name in :data:`SUPPRESSORS`."""
    settings: Mapping[str, Any]
    """The fields that were set, by their full names."""
    suppressor: Suppressor

    @property
    def is_variant(self) -> bool:
        """Whether settings differ from the defaults of the family."""
        return bool(self.settings)

    def with_setting(self, field: str, value: Any) -> "Choice":
        """Return the choice with one more setting, named after it."""
        name = f"{self.name}:{field}={value!r}"
        suppressor = _with_fields(self.name, self.suppressor, {field: value})
        return Choice(name, self.family, {**self.settings, field: value}, suppressor)


def choose(text: str) -> Choice:
    """Read ``NAME`` or ``NAME:FIELD=VALUE:FIELD=VALUE``, as a user writes it.

    Values are JSON; a value that is not JSON is a string. Raises UserError for an unknown name,
    with the nearest known one, and for a field or a value that the suppressor does not take.
    """
    family, *settings = text.split(":")
    if family not in SUPPRESSORS:
        raise UserError(f"suppressor: no {family!r} ({nearest(family, list(SUPPRESSORS))})")
    changes: dict[str, Any] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise UserError(
                f"suppressor {text!r}: expected FIELD=VALUE after the colon, got {setting!r}"
            )
        if full_name(field) in changes:
            raise UserError(f"suppressor {text!r}: {full_name(field)} is set twice")
        changes[full_name(field)] = json_or_text(value)
    return Choice(text, family, changes, _with_fields(family, SUPPRESSORS[family], changes))


def split_names(text: str) -> list[str]:
    """Split the texts of suppressors at commas, but not within ``wbf:model_weights=[1,2]``."""
    names = [""]
    depth = 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            names.append("")
        else:
            names[-1] += letter
    return [name.strip() for name in names]


def choose_each(texts: Sequence[str]) -> list[Choice]:
    """Read several suppressors, each of which gives a row that is named after its family.

    Raises UserError as :func:`choose`, and ValueError if two rows would have one name.
    """
    chosen = [choose(text) for text in texts]
    if len({choice.family for choice in chosen}) != len(chosen):
        raise ValueError(f"suppressors: expected different names, got {list(texts)}")
    return chosen


def get_suppressor(text: str) -> Suppressor:
    """Return a suppressor by ``NAME`` or ``NAME:FIELD=VALUE:FIELD=VALUE``.

    Raises UserError as :func:`choose`.

    Example:
        >>> from postnms import get_suppressor
        >>> get_suppressor("nms:iou=0.6").iou_threshold
        0.6
    """
    return choose(text).suppressor


def full_name(field: str) -> str:
    """Return the full name of a field that may be shortened, as in :data:`SHORT_NAMES`."""
    return SHORT_NAMES.get(field, field)


def _with_fields(name: str, suppressor: Suppressor, changes: dict[str, Any]) -> Suppressor:
    """Return the suppressor with other values of some fields; errors call it ``name``."""
    return type(suppressor).parse(suppressor.model_dump(mode="json") | changes, name)
