"""A file of candidates and the truth of its images: the material of every analysis."""

from dataclasses import dataclass
from pathlib import Path

from postnms.candidate_files.reader import CandidateFile, open_candidates
from postnms.candidate_files.truth import open_truth
from postnms.data.dataset import Truth
from postnms.data.digest import annotations_hash


@dataclass(frozen=True)
class Study:
    """Candidates and the truth of the same images, with the same classes."""

    candidates: CandidateFile
    truth: Truth
    data: Path | None = None
    """The annotation file, the data folder, or its ``data.yaml``. None: the built-in scenes."""

    @property
    def has_other_annotations(self) -> bool:
        """Whether the annotations differ from those that the candidates were dumped with."""
        dumped = self.candidates.provenance.get("annotations_sha256")
        if self.data is None or dumped is None:
            return False
        return dumped != annotations_hash(self.truth)


def open_study(path: Path, data: Path | None = None, split: str | None = None) -> Study:
    """Open a file of candidates and its truth.

    ``data`` and ``split`` are those of :func:`open_truth`. Raises UserError if a file is missing or
    broken, or if the two do not belong together.
    """
    candidates = open_candidates(path)
    return Study(candidates, open_truth(candidates, data, split), data)
