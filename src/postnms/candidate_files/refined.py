"""Candidates of a file as the stage of their run judges them: its boxes and its scores.

n: candidates.
"""

from typing import Any

from postnms.candidate_files.reader import CandidateFile
from postnms.errors import UserError
from postnms.stage import StageConfig
from postnms.stage.fusion import Fusion
from postnms.stage.judged import judge_alone
from postnms.structures import OBJECTNESS, REFINED, Candidates


def refined(candidates: Candidates, fusion: Fusion) -> Candidates:
    """Return candidates (n) of a chunk with the boxes and the scores of the stage.

    Each candidate is judged for itself, as by the suppressor of a stage. The file must have passed
    :func:`check_refined`.
    """
    extra = candidates.extra
    return judge_alone(candidates, extra[REFINED], extra[OBJECTNESS], fusion)


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
