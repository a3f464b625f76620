"""Reports of tests: the text of a page, its data, and pages with hostile names."""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import torch

from postnms.candidate_files.writer import CandidateWriter
from postnms.clustering import cluster, keep_keys
from postnms.data.config import DataConfig
from postnms.data.scenes.generator import ScenesConfig, write_scenes
from postnms.data.splits import find_data, read_split
from postnms.report.opening import open_source
from postnms.report.page import page_of
from postnms.report.sources import joined
from postnms.report.subjects import look_at
from postnms.structures import (
    CLUSTER_OBJECTNESS,
    OBJECTNESS,
    REFINED,
    Candidates,
    derive,
    take,
)

HOSTILE = "<script>window.broken=1</script>&\"'"
"""A class name that would run if it was not escaped."""


class _Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts = []
        self.parts = []
        self.attributes = []
        self._open = None

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag == "script":
            self.scripts.append([dict(attrs), ""])
        self._open = tag

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1][1] += data
        elif self._open != "style":
            self.parts.append(data)


class Page:
    """A report: its text, its scripts, its attributes, and the data in it."""

    def __init__(self, path):
        self.html = path.read_text(encoding="utf-8")
        parser = _Text()
        parser.feed(self.html)
        self.text = " ".join(" ".join(parser.parts).split())
        self.scripts, self.attributes = parser.scripts, parser.attributes
        self.data = json.loads(self.scripts[0][1])


def hostile_copy(dataset, folder):
    """Copy a data folder in COCO format, with hostile names of a class and of an image file."""
    shutil.copytree(dataset, folder)
    for file in folder.glob("instances_*.json"):
        content = json.loads(file.read_text())
        content["categories"][0]["name"] = HOSTILE
        image = content["images"][0]
        name = "<b>" + image["file_name"].rpartition("/")[2]
        (folder / "images" / image["file_name"]).rename(folder / "images" / name)
        image["file_name"] = name
        file.write_text(json.dumps(content))
    return folder


def dumped_scenes(folder, images=12, size=160):
    """Write scenes, and candidates near their objects that a stage has judged; return both paths.

    A class and an image file have hostile names. Kept boxes have some members, and the stage moves
    every candidate half of the way to its object.
    """
    plain = folder / "plain"
    write_scenes(ScenesConfig(train=1, val=images, size=size), 0, plain)
    data = hostile_copy(plain, folder / "scenes")
    dataset = read_split(DataConfig(), find_data(DataConfig(), data), "val")
    random = torch.Generator().manual_seed(0)
    path = folder / "dump.safetensors"
    about = {"nms_threshold": 0.5, "split": "val", "data": "scenes", "seed": 0}
    with CandidateWriter(path, dataset.categories, "instances_val.json", about) as writer:
        for record in dataset.records:
            candidates, moved, judged = _near_objects(record, random)
            keys = keep_keys(cluster(candidates), 100)[0]
            fused = 0.5 * keys.scores + 0.5 * judged[keys.source]
            stage = derive(keys, boxes=moved[keys.source], scores=fused)
            stage = take(stage, fused.argsort(descending=True))
            extra = {REFINED: moved, OBJECTNESS: judged, CLUSTER_OBJECTNESS: judged}
            writer.add(
                derive(candidates, extra=extra), [record.id], {"nms": keys, "post_nms": stage}
            )
    return path, data


def _near_objects(record, random):
    """Return eight candidates for each object, where a stage moves them, and its objectness."""
    objects = torch.from_numpy(record.boxes).repeat_interleave(8, dim=0)
    labels = torch.from_numpy(record.labels).repeat_interleave(8)
    count = len(objects)
    boxes = objects + 3 * torch.randn(count, 4, generator=random)
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 2)
    wrong = torch.rand(count, generator=random) < 0.1
    labels = torch.where(wrong, (labels + 1) % 5, labels)
    zeros = torch.zeros(count, dtype=torch.int64)
    scores = torch.rand(count, generator=random)
    candidates = Candidates(boxes, scores, labels, zeros, torch.arange(count), 1)
    return candidates, (boxes + objects) / 2, torch.rand(count, generator=random)


def page_of_many(path, data, out, images):
    """Write the report of a dump as if its split had many more images; return its page."""
    (source,) = joined([open_source(path, data, None)])
    subject = look_at(source, out.parent, bootstrap=0)
    index = subject.index + [[f"more_{i}.png", 7, 50.0, 51.0, None] for i in range(images)]
    subject = replace(subject, index=index[:images])
    out.write_text(page_of([source], [subject], "none"), encoding="utf-8")
    return Page(out)
