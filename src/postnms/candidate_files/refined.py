"""Candidates of a file as the stage of their run judges them: its boxes and its scores.

n: candidates, d: keys that NMS keeps.
"""

from typing import Any

import torch

from postnms.candidate_files.clusters import clusters_of
from postnms.candidate_files.reader import CandidateFile
from postnms.clustering import keep_keys
from postnms.errors import UserError, shown
from postnms.stage import StageConfig
from postnms.stage.fusion import Fusion
from postnms.stage.judged import judge_alone
from postnms.structures import (
    CLUSTER_OBJECTNESS,
    OBJECTNESS,
    REFINED,
    Candidates,
    Detections,
    derive,
)

USUAL_LIMIT = 100
"""Largest number of detections of an image in the row of the paper, if the file does not say that
of its detector."""


def refined(candidates: Candidates, fusion: Fusion) -> Candidates:
    """Return candidates (n) of a chunk with the boxes and the scores of the stage.

    Each candidate is judged for itself, as by the suppressor of a stage. The file must have passed
    :func:`check_refined`.

    Raises UserError if the weights lead to scores that are not finite.
    """
    objectness = candidates.extra[OBJECTNESS]
    scores = fusion(candidates.scores, objectness, objectness)
    if not bool(torch.isfinite(scores).all()):
        raise UserError(f"{fusion}: expected weights that lead to finite scores", argument="fusion")
    return judge_alone(candidates, candidates.extra[REFINED], objectness, fusion)


def kept_keys(file: CandidateFile, candidates: Candidates) -> Detections:
    """Return the keys (d) of a chunk that NMS keeps, with the columns of their candidates.

    The IoU threshold and the limit are those of the detector that the file comes from. The file
    must have passed :func:`check_refined`.

    Raises:
        UserError: the file has another threshold or limit than a detector can have, or it lacks a
            column. The message names the file.
    """
    if CLUSTER_OBJECTNESS not in file.extra:
        raise UserError(f"{file.path}: no column {CLUSTER_OBJECTNESS!r}; dump the run again")
    most = file.provenance.get("max_detections", USUAL_LIMIT)
    if type(most) is not int or most < 1:
        raise UserError(
            f"{file.path}: provenance.max_detections: expected at least 1, got {shown(most)}"
        )
    return keep_keys(clusters_of(file, candidates), most)[0]


def paper_row(keys: Detections, fusion: Fusion, *, relocation: bool = True) -> Detections:
    """Return the row of the paper: the keys of :func:`kept_keys` with the scores of the stage.

    Args:
        keys: (d) keys of any images.
        fusion: how the three scores of a key are joined.
        relocation: whether the keys get the boxes of the stage. Off: they stay where they are.

    Returns:
        (d) detections in the order of the keys, which is that of the detector's score.
    """
    extra = keys.extra
    scores = fusion(keys.scores, extra[CLUSTER_OBJECTNESS], extra[OBJECTNESS])
    return derive(keys, boxes=extra[REFINED] if relocation else keys.boxes, scores=scores)


def check_refined(file: CandidateFile) -> None:
    """Raise UserError that names the file if it lacks what a stage says of its candidates."""
    missing = [name for name in (REFINED, OBJECTNESS) if name not in file.extra]
    if missing:
        raise UserError(
            f"{file.path}: boxes of a stage: no column {missing[0]!r}; it comes with "
            "'postnms dump' of a run with a stage"
        )


def fusion_of(file: CandidateFile) -> Fusion:
    """Return how the stage of the run that a file comes from joins its scores.

    Raises UserError that names the file if it does not say so.
    """
    recipe: Any = file.provenance.get("recipe")
    try:
        settings = {name: recipe["stage"][name] for name in ("fusion", "fusion_mean")}
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{file.path}: provenance: expected the recipe of a run with a stage; name the weights "
            "of its scores yourself",
            argument="fusion",
        ) from error
    return StageConfig.parse(settings, f"{file.path}: recipe.stage").fuse
