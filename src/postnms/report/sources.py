"""What a report is made of: runs, files of candidates and folders of comparisons.

Several of them may be of one detector, for example a run, its dump and the comparison on the dump.
They are joined then, since the hash of the weights is in each of them.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from postnms.candidate_files.reader import CandidateFile
from postnms.data.dataset import Dataset, Truth
from postnms.data.digest import annotations_hash
from postnms.data.loader import DetectionData
from postnms.errors import UserError
from postnms.evaluation.columns import ResultColumns
from postnms.recipes import Recipe
from postnms.report.compared import Line
from postnms.runs.folder import RunFolder


@dataclass(frozen=True)
class TrainedRun:
    """A run whose detector can look at images."""

    folder: RunFolder
    recipe: Recipe
    """The recipe of the results: that of the run, or that of its last evaluation."""
    data: DetectionData
    """The split."""


@dataclass(frozen=True)
class Source:
    """All that is known of one detector on one split."""

    name: str
    """Name of the run, of the file or of the folder, without its ending."""
    weights: str | None
    """Hash of the weights. None: it is not known."""
    truth: Truth | None = None
    """The annotations. None: only figures of a comparison are there."""
    dataset: Dataset | None = None
    """The images of the split. None: they are not known."""
    results: Mapping[str, ResultColumns] = field(default_factory=dict)
    """The results of each row on all images."""
    lines: tuple[Line, ...] = ()
    """The rows of a comparison."""
    candidates: CandidateFile | None = None
    """The candidates of all images."""
    run: TrainedRun | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """Where the figures come from, by a name for people."""
    digest: str | None = None
    """Hash of the annotations, where no truth is there to compute it from."""
    notes: tuple[str, ...] = ()
    """What a reader has to know."""

    @property
    def annotations(self) -> str | None:
        """Hash of the annotations. None: it is not known."""
        return self.digest if self.truth is None else annotations_hash(self.truth)


def joined(sources: Sequence[Source]) -> list[Source]:
    """Return one source for each detector, in the order of their first appearance.

    Raises UserError if two of them are of different annotations: their figures could not be
    compared.
    """
    by_weights: dict[object, Source] = {}
    for number, source in enumerate(sources):
        key = number if source.weights is None else source.weights
        by_weights[key] = _join(by_weights[key], source) if key in by_weights else source
    found = list(by_weights.values())
    _check_same_data(found)
    names = numbered([source.name for source in found])
    return [replace(source, name=name) for source, name in zip(found, names, strict=True)]


def numbered(names: Sequence[str]) -> list[str]:
    """Return names of which no two are equal: those that occur twice get numbers.

    Example:
        >>> from postnms.report.sources import numbered
        >>> numbered(["a", "b", "a", "a (3)"])
        ['a (1)', 'b', 'a (4)', 'a (3)']
    """
    taken = set(names)
    found = []
    for number, name in enumerate(names, 1):
        if names.count(name) > 1:
            free = (f"{name} ({k})" for k in itertools.count(number))
            name = next(text for text in free if text not in taken)
            taken.add(name)
        found.append(name)
    return found


def _join(one: Source, other: Source) -> Source:
    """Return both as one. What the first one has comes first, but rows of candidates win.

    The rows of a dump have the columns that lead from a box to its cluster.
    """
    _check_same_data([one, other])
    results = {**one.results, **other.results}
    if one.candidates is not None:
        results |= one.results
    return replace(
        one,
        name=other.name if one.run is None and other.run is not None else one.name,
        truth=one.truth or other.truth,
        dataset=one.dataset or other.dataset,
        results=results,
        lines=one.lines or other.lines,
        candidates=one.candidates or other.candidates,
        run=one.run or other.run,
        facts={**other.facts, **one.facts},
        digest=one.digest or other.digest,
        notes=tuple(dict.fromkeys((*one.notes, *other.notes))),
    )


def _check_same_data(sources: Sequence[Source]) -> None:
    known = [source for source in sources if source.annotations is not None]
    for source in known[1:]:
        if source.annotations != known[0].annotations:
            raise UserError(
                f"{source.name}: expected the images and annotations of {known[0].name}, got "
                "others; make one report for each data set"
            )
