"""Readers of annotations, results, candidates and images, and checks of what they give.

Each takes the path of a damaged file and that of the undamaged one. Whatever the file says, numbers
must be finite, shapes and counts must fit together, and fields must have their documented types.
"""

import gzip
import json
import math
from functools import cache

import numpy as np
import torch
from PIL import Image

from postnms.analysis.comparison import compare
from postnms.analysis.study import open_study
from postnms.candidate_files import import_results, open_candidates
from postnms.data.formats.coco import read_coco, read_truth
from postnms.data.image_files import load_image
from postnms.data.layouts import recognise
from postnms.data.loader import DetectionData
from postnms.data.scenes.generator import ScenesConfig, write_scenes
from postnms.data.targets import group_by_image, targets_of
from postnms.errors import UserError
from postnms.rescoring import load_rescorer
from postnms.viewers.from_results import row_of_results
from tests.fuzz.cases import WrongResultError

FOLDERS = ("data_yaml", "yolo_labels", "voc_xml", "metadata_lines", "data_card")
"""Kinds of files in data folders of formats besides COCO."""
GZIP = b"\x1f\x8b"


def require(condition, what):
    if not condition:
        raise WrongResultError(what)


def read_annotations(path, undamaged):
    """Read a data set; make targets of all objects; load every sample."""
    dataset = read_coco(path, path.parent / "images")
    truth = dataset.truth
    classes = len(dataset.categories)
    ids = [record.id for record in dataset.records]
    require(ids == [entry["id"] for entry in truth.images], "ids of images")
    require(len(set(ids)) == len(ids), "an id of two images")
    require(len({category.id for category in dataset.categories}) == classes, "ids of categories")
    require(all(isinstance(category.name, str) for category in dataset.categories), "a name")
    for record in dataset.records:
        check_record(record, classes)
    targets = targets_of(truth, ids, group_by_image(truth))
    require(len(targets.labels) == len(truth.annotations), "number of targets")
    require(bool(targets.boxes.isfinite().all()), "a box of the targets")
    data = DetectionData(dataset, 32, 64)
    require(len(data.aspect_groups) == len(ids), "number of aspect groups")
    for index in range(len(data)):
        sample = data[index]
        require(bool(sample.boxes.isfinite().all()), "a box of a sample")
        require(sample.image.shape[0] == 3 and max(sample.image.shape) <= 64, "size of a sample")


def read_data_folder(path, undamaged):
    """Recognise a data folder, read all splits, and make targets of all objects."""
    names = undamaged.relative_to(next(p for p in undamaged.parents if p.name in FOLDERS)).parts
    found = recognise(path.parents[len(names) - 1])
    require("\n" not in found.describe(), "line breaks in the description")
    for split in found.splits:
        dataset = found.read(split)
        truth = dataset.truth
        ids = [record.id for record in dataset.records]
        require(len(set(ids)) == len(ids), "an id of two images")
        for record in dataset.records:
            check_record(record, len(dataset.categories))
        targets = targets_of(truth, ids, group_by_image(truth))
        require(bool(targets.boxes.isfinite().all()), "a box of the targets")


def check_record(record, classes):
    """Check the columns of an image against each other and against its size."""
    count = len(record.labels)
    require(record.boxes.shape == (count, 4) and record.crowd.shape == (count,), "columns")
    require(record.boxes.dtype == np.float32, "dtype of boxes")
    require(bool(np.isfinite(record.boxes).all()), "a box of a record")
    require(bool((record.boxes[:, :2] <= record.boxes[:, 2:]).all()), "corners of a box")
    require(not count or 0 <= record.labels.min() <= record.labels.max() < classes, "a label")
    require(type(record.height) is int and type(record.width) is int, "type of a size")
    require(record.height > 0 and record.width > 0, "a size")


def read_results(path, undamaged):
    """View and import results; compare the numbers of both with that of the entries."""
    truth = truth_of(undamaged.with_name("instances_val.json"))
    viewed = row_of_results("results", truth, path)
    require(len(viewed.verdicts) == len(viewed.columns), "verdicts")
    out = path.with_name("imported.safetensors")
    try:
        images, count = import_results(path, truth, "instances_val.json", out, {})
    except UserError:
        require(not any(out.parent.glob("*imported*")), "refused results leave a file")
        raise
    entries = entries_of(path)
    require((images, count) == (len(truth.images), len(entries)), "number of candidates")
    require(len(viewed.columns) == count, "number of detections to view")
    file = open_candidates(out)
    scores = check_candidates(file)
    wanted = np.array([entry["score"] for entry in entries], np.float64).astype(np.float32)
    require(sorted(wanted.tolist()) == sorted(scores), "scores")


@cache
def truth_of(path):
    return read_truth(path)


def entries_of(path):
    """Return the entries of accepted results, read by other code than that of the library."""
    data = path.read_bytes()
    if data.startswith(GZIP):
        data = gzip.decompress(data)
    return json.loads(data.decode("utf-8-sig"))


def read_candidates(path, undamaged):
    """Read all candidates and all rows of a file."""
    check_candidates(open_candidates(path))


def check_candidates(file):
    """Check a file and its candidates; return their scores in the order of the file."""
    count = len(file)
    require(len(set(file.image_ids)) == count and file.offsets.shape == (count + 1,), "images")
    check_facts(file)
    scores = []
    for ids, candidates in file.chunks(3):
        check_structure(candidates, len(ids), len(file.categories))
        require(set(candidates.extra) == set(file.extra), "extra columns")
        require(all(len(c) == len(candidates.scores) for c in candidates.extra.values()), "extra")
        require(all(bool(c.isfinite().all()) for c in candidates.extra.values()), "an extra number")
        scores += candidates.scores.tolist()
    require(len(scores) == file.num_candidates, "number of candidates")
    for name in file.rows:
        check_structure(file.row(name), count, len(file.categories))
    return scores


def check_facts(file):
    """Check the types of what comes from the metadata."""
    require(isinstance(file.annotations, str | None), "type of annotations")
    require(isinstance(file.provenance, dict), "type of provenance")
    require(isinstance(file.milliseconds, dict), "type of milliseconds")
    for spent in file.milliseconds.values():
        require(type(spent) in (int, float) and math.isfinite(spent), "milliseconds")
    for category in file.categories:
        require(type(category.id) is int and isinstance(category.name, str), "a category")
    require(len({c.id for c in file.categories}) == len(file.categories), "ids of categories")


def check_structure(structure, images, classes):
    """Check the columns of candidates or detections against each other."""
    count = len(structure.scores)
    require(structure.num_images == images, "number of images")
    require(structure.boxes.shape == (count, 4), "shape of boxes")
    require(bool(structure.boxes.isfinite().all()), "a box")
    require(bool(structure.scores.isfinite().all()), "a score")
    for name, limit in (("labels", classes), ("image", images), ("source", 2**31)):
        column = getattr(structure, name)
        require(column.shape == (count,) and column.dtype == torch.int64, name)
        require(not count or 0 <= int(column.min()) <= int(column.max()) < limit, name)


def read_study(path, undamaged):
    """Compare suppressors on candidates and their annotations, of which one is damaged."""
    study = open_study(path.with_name("c.safetensors"), path.with_name("instances_val.json"))
    rows = compare(study, [], bootstrap=0)
    require(len(rows) == 2 + len(study.candidates.rows), "number of rows")
    for row in rows:
        for figure in row.figures.values():
            require(figure is None or 0 <= figure <= 100, "a figure")


def read_rescorer(path, undamaged):
    """Load a rescorer and use it. One that is accepted is the one that was written."""
    candidates = open_candidates(undamaged.with_name("c.safetensors"))
    given, _ = candidates.part(0, len(candidates))
    scores = []
    for file in (path, undamaged):
        rescorer = load_rescorer(file)
        rescorer.check_fits(candidates)
        detections = rescorer(given, torch.full((len(candidates), 2), 64.0))
        check_structure(detections, len(candidates), len(candidates.categories))
        scores.append(detections.scores)
    require(torch.equal(*scores), "other weights than were saved")


def read_image(path, undamaged):
    """Load an image of any size, and then of the size of the undamaged one."""
    check_image(load_image(path))
    with Image.open(undamaged) as file:
        size = (file.height, file.width)
    image = load_image(path, size)
    check_image(image)
    require((image.height, image.width) == size, "size of the image")


def check_image(image):
    require(image.mode == "RGB" and min(image.size) > 0, "mode or size of the image")
    require(np.asarray(image).shape == (image.height, image.width, 3), "shape of the image")


def read_scenes(path, undamaged):
    """Write the built-in data set into a folder that has one already."""
    write_scenes(ScenesConfig(train=0, val=0, size=32), 0, path.parent)
    read_truth(path)
