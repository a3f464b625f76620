"""``postnms suppressors``: list the suppressors; and how other verbs read a choice of them."""

import json
from typing import TYPE_CHECKING

from postnms.cli.console import out, say

if TYPE_CHECKING:
    from postnms.candidate_files.reader import CandidateFile
    from postnms.suppression import Choice


def suppressors() -> None:
    """List all suppressors with their settings."""
    from postnms.suppression import SUPPRESSORS, Suppressor

    common = set(Suppressor.model_fields)
    for name, suppressor in SUPPRESSORS.items():
        settings = {
            field: value
            for field, value in suppressor.model_dump(mode="json").items()
            if field not in common
        }
        if suppressor.class_agnostic:
            settings["class_agnostic"] = True
        texts = [
            f"{field}={value if isinstance(value, str) else json.dumps(value)}"
            for field, value in settings.items()
        ]
        out.print(":".join([name, *texts]), soft_wrap=True, style="bold")
        say(f"    {(type(suppressor).__doc__ or '').splitlines()[0]}")
    say(f"all have also: {', '.join(sorted(common))}")


def read_choices(names: str, file: "CandidateFile") -> "list[Choice]":
    """Return the suppressors that a user names, separated by commas.

    Raises UserError if the file lacks a column that one of them needs.
    """
    from postnms.suppression import choose
    from postnms.suppression.registry import split_names

    choices = {name: choose(name) for name in split_names(names)}
    for choice in choices.values():
        choice.suppressor.check_columns(file.extra)
    return list(choices.values())


def every_choice(file: "CandidateFile") -> "list[Choice]":
    """Return all suppressors that a file is sufficient for, and say which are left out."""
    from postnms.analysis.comparison import suppressors_for
    from postnms.suppression import SUPPRESSORS

    choices = suppressors_for(file)
    if missing := SUPPRESSORS.keys() - {choice.name for choice in choices}:
        why = "left out, since the candidates lack their columns or scores in [0, 1]"
        say(f"{why}: {', '.join(sorted(missing))}")
    return choices
