"""Candidates of a whole split on disk: written, read, imported, dumped and replayed."""

from postnms.candidate_files.coco_import import import_results
from postnms.candidate_files.dump import dump_candidates
from postnms.candidate_files.reader import CandidateFile, open_candidates
from postnms.candidate_files.replays import Replayed, replay
from postnms.candidate_files.truth import open_images, open_truth
from postnms.candidate_files.writer import CandidateWriter

__all__ = [
    "CandidateFile",
    "CandidateWriter",
    "Replayed",
    "dump_candidates",
    "import_results",
    "open_candidates",
    "open_images",
    "open_truth",
    "replay",
]
