"""The folder that ``postnms compare`` writes, read again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postnms.analysis.reports import COMPARED
from postnms.candidate_files.reader import CandidateFile, open_candidates
from postnms.data.formats.fields import is_number, is_text
from postnms.errors import UserError, shown
from postnms.evaluation.metrics import FIGURES
from postnms.evaluation.results import Figures
from postnms.files.json_files import read_json

RUN = "run "
"""What comes before the name of a row that the file of candidates held."""


@dataclass(frozen=True)
class Line:
    """One row of a comparison."""

    name: str
    figures: Figures
    """In per cent."""
    gain: float | None
    low: float | None
    high: float | None
    milliseconds: float | None


@dataclass(frozen=True)
class Comparison:
    """What a folder of a comparison says."""

    lines: tuple[Line, ...]
    candidates: dict[str, Any]
    """The name of the file of candidates, and its provenance."""


def read_comparison(folder: Path) -> Comparison:
    """Read ``compare.json`` of a folder. Raises UserError that names the file if it is broken."""
    path = folder / COMPARED.name
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise UserError(f"{path}: expected an object with a list of rows, got another form")
    lines = tuple(_line(row, f"{path}: rows[{i}]") for i, row in enumerate(content["rows"]))
    if not lines:
        raise UserError(f"{path}: rows: expected at least one, got none")
    candidates = content.get("candidates")
    if not isinstance(candidates, dict):
        raise UserError(f"{path}: candidates: expected an object, got {shown(candidates)}")
    return Comparison(lines, candidates)


def find_candidates(folder: Path, comparison: Comparison) -> CandidateFile | None:
    """Return the candidates of a comparison, if their file is in its folder or beside it.

    A file of that name counts if it has the provenance that the comparison says.
    """
    wanted = dict(comparison.candidates)
    name = wanted.pop("file", None)
    if not is_text(name) or not name:
        return None
    for place in (folder, folder.resolve().parent):
        path = place / Path(name).name
        if path.is_file():
            file = open_candidates(path)
            if file.provenance == wanted:
                return file
    return None


def _line(row: Any, where: str) -> Line:
    """Return a row of the file. Raise UserError if it has another form."""
    if not isinstance(row, dict) or not is_text(row.get("name")):
        raise UserError(f"{where}: expected an object with a name, got {shown(row)}")
    figures = row.get("figures")
    if not isinstance(figures, dict):
        raise UserError(f"{where}.figures: expected an object, got {shown(figures)}")
    numbers = {name: row.get(name) for name in ("gain", "low", "high", "milliseconds")}
    of_figures = {name: figures.get(name) for name in FIGURES}
    for name, value in (numbers | of_figures).items():
        if value is not None and not is_number(value):
            raise UserError(f"{where}.{name}: expected a number or null, got {shown(value)}")
    return Line(row["name"], of_figures, **numbers)
