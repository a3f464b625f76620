"""Experiments whose runs are written by hand, so that none of them has to be trained."""

import dataclasses
import json

import numpy as np
import torch
import yaml

from postnms.analysis.comparison import compare
from postnms.analysis.study import open_study
from postnms.candidate_files.writer import CandidateWriter
from postnms.evaluation.columns import read_results
from postnms.evaluation.metrics import evaluate_rows
from postnms.experiments.config import read_experiment
from postnms.experiments.plan import make_plan, rows_of
from postnms.files.atomic import hash_of, write_json
from postnms.runs.folder import begin_run, write_results
from postnms.structures import CLUSTER_OBJECTNESS, OBJECTNESS, REFINED, Candidates
from postnms.suppression import choose
from tests.support.coco import scene

PLAIN = {"set": ["stage.suppressor=null"]}
"""The fields of an arm with the stage of the paper and two rows."""
FIELDS = {
    "title": "A stage",
    "text": "Why it is *tried*.",
    "recipe": "demo",
    "set": ["training.iterations=20"],
    "seeds": [0, 3],
    "arms": {"bare": {"set": ["stage=null"]}, "stage": PLAIN},
    "differences": [["stage.post_nms", "bare.nms"], ["stage.post_nms", "stage.nms"]],
    "bootstrap": 30,
}
HEURISTICS = {"arms": ["stage"], "methods": ["soft_nms_linear", "nms:iou=0.9"]}


def write_experiment(folder, **fields):
    """Write the file of an experiment with some other fields than :data:`FIELDS`; return it."""
    path = folder / "mine.yaml"
    # Through JSON, equal parts are parts of their own, and YAML has no aliases for them.
    content = json.loads(json.dumps({**FIELDS, **fields}))
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def planned(folder, data=None, **fields):
    """Return the plan of an experiment whose file is written to a folder."""
    return make_plan(read_experiment(write_experiment(folder, **fields)), folder / "mine", data)


def write_data(folder):
    """Write a data folder without images; return it, the truth and results near the truth."""
    truth, results = scene(4)
    data = folder / "cells"
    data.mkdir()
    for split in ("train", "val"):
        (data / f"instances_{split}.json").write_text(json.dumps(truth.content))
    return data, truth, results


def moved(results, seed, pixels=3.0):
    """Return results whose boxes and scores are changed at random."""
    random = np.random.default_rng(seed)
    return [
        {
            **entry,
            "bbox": [
                float(v) for v in np.abs(np.array(entry["bbox"]) + random.normal(0, pixels, 4))
            ],
            "score": float(random.uniform()),
        }
        for entry in results
    ]


def finish(plan, run, truth, results, commit="0123456789ab"):
    """Write a run as if it had been trained, with results that depend on its arm and its seed."""
    folder = run.folder
    begin_run(folder, run.recipe, truth.categories, plan.data, resume=False, command="postnms x")
    about = json.loads(folder.provenance.read_text())
    write_json(folder.provenance, {**about, "commit": commit})
    number = len(run.arm) + 10 * run.seed
    rows = {row: moved(results, number + 100 * i) for i, row in enumerate(rows_of(run.recipe))}
    columns = {row: read_results(truth, entries) for row, entries in rows.items()}
    write_results(folder, evaluate_rows(truth, columns, bootstrap=5), columns)
    folder.weights.write_bytes(run.name.encode())
    lines = [{"iteration": 10, "seconds_per_iteration": 2.0}, {"iteration": 20, "nms/AP": 1.0}]
    lines.insert(1, {"iteration": 20, "seconds_per_iteration": 4.0})
    folder.log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return rows


def replay_by_hand(plan, run, truth, results, judged=False):
    """Write candidates of a run and their comparison, as ``dump`` and ``compare`` do.

    ``judged``: with columns of a stage, which moves all boxes by a pixel.
    """
    boxes = torch.tensor([entry["bbox"] for entry in results])
    boxes[:, 2:] += boxes[:, :2]
    ids = [entry["id"] for entry in truth.images]
    label_of = {category.id: label for label, category in enumerate(truth.categories)}
    candidates = Candidates(
        boxes,
        torch.tensor([entry["score"] for entry in results]),
        torch.tensor([label_of[entry["category_id"]] for entry in results]),
        torch.tensor([ids.index(entry["image_id"]) for entry in results]),
        torch.arange(len(results)),
        len(ids),
    )
    if judged:
        score = {OBJECTNESS: candidates.scores, CLUSTER_OBJECTNESS: candidates.scores}
        extra = {REFINED: candidates.boxes + 1, **score}
        candidates = dataclasses.replace(candidates, extra=extra)
    about = {"weights_sha256": hash_of(run.folder.weights), "split": "val"}
    with CandidateWriter(run.candidates, truth.categories, None, about) as writer:
        writer.add(candidates, ids, {"nms": choose("nms").suppressor(candidates)} if judged else {})
    study = open_study(run.candidates, plan.data)
    rows = compare(study, [choose(method) for method in plan.methods_of(run.arm)], bootstrap=0)
    described = [
        {"name": r.name, "figures": r.figures, "milliseconds": 1.5, "settings": dict(r.settings)}
        for r in rows
    ]
    write_json(run.compared / "compare.json", {"candidates": about, "rows": described})


def finished_plan(folder, **fields):
    """Return a plan all of whose runs are written by hand, the truth and the results."""
    data, truth, results = write_data(folder)
    plan = planned(folder, data, **fields)
    for run in plan.runs:
        finish(plan, run, truth, results)
        if plan.replays(run.arm):
            replay_by_hand(plan, run, truth, moved(results, 50 + run.seed))
    return plan, truth, results
