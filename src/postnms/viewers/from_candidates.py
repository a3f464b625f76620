"""The rows of a file of candidates, with the clusters that their boxes belong to.

n: candidates of the file, d: detections of a row.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from postnms.candidate_files.clusters import clusters_of, origins
from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.replays import as_columns, join_chunks, replay
from postnms.config import Progress, no_progress
from postnms.data.dataset import Truth
from postnms.structures import Detections
from postnms.suppression import Choice
from postnms.viewers.rows import ViewedRow, view_row

CANDIDATES_ROW = "candidates"
"""Name of the row of all candidates, members and keys."""


def rows_of_file(
    file: CandidateFile, truth: Truth, choices: Iterable[Choice], done: Progress = no_progress
) -> list[ViewedRow]:
    """Return all candidates, the rows of the file, and those of suppressors that are replayed.

    A row of the file has ``run_`` before its name. A detection belongs to the cluster of the
    candidate that it comes from, which has the same image, class and source. Detections of a class
    that the truth does not list are left out.

    Args:
        file: the candidates.
        truth: the annotations of the same images.
        choices: suppressors.
        done: called with 1 after every row.

    Raises:
        UserError: the candidates are not what a suppressor needs, or the file is broken. The
            message names the file.
    """
    every, clusters, is_key = _cluster_file(file)
    listed = _known(file, truth)
    first = _viewed(CANDIDATES_ROW, file, truth, every)
    kept = listed[every.labels.numpy()]
    rows = [replace(first, clusters=clusters[kept], keys=is_key[kept])]
    done(1)
    named = [(f"run_{name}", file.row(name)) for name in file.rows]
    replayed = ((choice.name, replay(file, choice.suppressor).detections) for choice in choices)
    for name, detections in (*named, *replayed):
        kept = listed[detections.labels.numpy()]
        # The last number stands for an origin of -1: there is none.
        found = np.append(clusters, 0)[origins(detections, every).numpy()][kept]
        rows.append(replace(_viewed(name, file, truth, detections), clusters=found))
        done(1)
    return rows


def _viewed(name: str, file: CandidateFile, truth: Truth, detections: Detections) -> ViewedRow:
    return view_row(name, truth, as_columns(detections, file, truth))


def _known(file: CandidateFile, truth: Truth) -> NDArray[np.bool_]:
    """Return for each label of the file whether the truth lists its class."""
    ids = {category["id"] for category in truth.content["categories"]}
    return np.array([category.id in ids for category in file.categories], np.bool_)


def _cluster_file(
    file: CandidateFile,
) -> tuple[Detections, NDArray[np.int64], NDArray[np.bool_]]:
    """Return the candidates (n) of all images, the numbers of their clusters, and the keys."""
    parts, numbers, keys = [], [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
    for ids, candidates in file.chunks():
        clusters = clusters_of(file, candidates)
        # Keys come by falling score, so a stable sort by image numbers those of each image.
        image = candidates.image[clusters.keys]
        order = image.argsort(stable=True)
        start = torch.searchsorted(image[order], image[order])
        number = torch.empty_like(order)
        number[order] = torch.arange(len(order)) - start + 1
        numbers.append(number[clusters.assignment].numpy())
        is_key = np.zeros(len(candidates.scores), np.bool_)
        is_key[clusters.keys.numpy()] = True
        keys.append(is_key)
        columns = (candidates.boxes, candidates.scores, candidates.labels)
        parts.append(Detections(*columns, candidates.image, candidates.source, len(ids)))
    return join_chunks(parts, len(file)), np.concatenate(numbers), np.concatenate(keys)
