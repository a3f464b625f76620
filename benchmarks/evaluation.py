"""Time an evaluation of the size of COCO val2017: figures, intervals, comparisons and analyses.

    python benchmarks/evaluation.py [--parts rows peers compare analyse] [--before FOLDER]

Truth, results and candidates are random (``coco_sized.py``): 5,000 images, 36,000 objects of 80
classes, 100 detections an image in each of two rows, 1,000 candidates an image. The parts are:

- ``rows``: ``evaluate_rows`` of two rows of results, with and without 1,000 resamples. Truth and
  results are columns, as they are in an evaluation of a detector.
- ``peers``: the 12 figures of one row, beside pycocotools, faster-coco-eval and, where it is
  installed, hotcoco.
- ``compare``: ``compare`` of all suppressors on the candidates, with and without resamples.
- ``analyse``: ``analyse`` of greedy NMS on the candidates.

Each measurement is a process of its own, whose peak memory counts, results and libraries included.
Peers alternate in one process, and their medians count. ``--before FOLDER`` measures the same with
the library of another checkout that has the same classes of columns, in turns with this one.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from coco_sized import (
    Scenes,
    as_columns,
    as_dicts,
    load_boxes,
    make_boxes,
    make_scenes,
    save_boxes,
    write_candidates,
)
from postnms.evaluation import coco_metrics, evaluate_rows

SPREADS = {"nms": 0.12, "post_nms": 0.10}
"""How far the boxes of each row lie from their objects, as a share of the sides."""
CANDIDATES = "candidates.safetensors"
TARGETS = {
    "rows": (30.0, 1.2),
    "compare": (360.0, None),
    "compare without resamples": (180.0, None),
    "analyse": (30.0, None),
}
"""Most seconds and GiB that are aimed at, on two cores."""


def peak() -> float:
    """Return the peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def scenes_of(given: argparse.Namespace) -> Scenes:
    return make_scenes(given.images, given.objects, given.classes, seed=0)


def write_data(given: argparse.Namespace) -> None:
    """Write the random results and candidates that the folder does not have."""
    scenes = scenes_of(given)
    given.folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, spread) in enumerate(SPREADS.items(), 1):
        path = given.folder / f"{name}.npz"
        if not path.is_file():
            save_boxes(path, make_boxes(scenes, given.detections, spread, seed))
    path = given.folder / CANDIDATES
    if {"compare", "analyse"} & set(given.parts) and not path.is_file():
        write_candidates(path, scenes, given.candidates, SPREADS["nms"], 1)


def measure_rows(given: argparse.Namespace) -> dict[str, float]:
    scenes = scenes_of(given)
    rows = {name: as_columns(load_boxes(given.folder / f"{name}.npz"), scenes) for name in SPREADS}
    # Kernels are compiled once for all processes, and are then loaded from the cache.
    few = {name: list(row.dicts(slice(1000))) for name, row in rows.items()}
    evaluate_rows(scenes.truth, few, bootstrap=1)
    before = peak()
    alone = timed(lambda: evaluate_rows(scenes.truth, rows, bootstrap=0))
    begin = time.process_time()
    seconds = timed(lambda: evaluate_rows(scenes.truth, rows, bootstrap=given.resamples))
    return {
        "rows": seconds,
        "seconds of all cores": time.process_time() - begin,
        "rows without resamples": alone,
        "peak": peak(),
        "of that before the evaluation": before,
    }


def measure_compare(given: argparse.Namespace, bootstrap: int) -> dict[str, float]:
    from postnms.analysis.comparison import compare, suppressors_for
    from postnms.analysis.study import Study
    from postnms.candidate_files.reader import open_candidates

    study = Study(open_candidates(given.folder / CANDIDATES), scenes_of(given).truth)
    ends = [time.perf_counter()]
    begin = time.process_time()
    rows = compare(
        study,
        suppressors_for(study.candidates),
        bootstrap=bootstrap,
        done=lambda _: ends.append(time.perf_counter()),
    )
    of_rows = {row.name: end - begin for row, begin, end in zip(rows, ends, ends[1:], strict=False)}
    slow = sorted(of_rows, key=lambda name: -of_rows[name])[:5]
    replaying = sum((row.milliseconds or 0) * len(study.candidates) / 1000 for row in rows)
    name = "compare" if bootstrap else "compare without resamples"
    return {
        name: ends[-1] - ends[0],
        "seconds of all cores": time.process_time() - begin,
        "rows": len(rows),
        "of that in the suppressors": replaying,
        **{f"slowest rows: {name}": of_rows[name] for name in slow},
        "peak": peak(),
    }


def measure_analyse(given: argparse.Namespace) -> dict[str, float]:
    from postnms.analysis.diagnosis import analyse
    from postnms.analysis.study import Study
    from postnms.candidate_files.reader import open_candidates
    from postnms.suppression import choose

    study = Study(open_candidates(given.folder / CANDIDATES), scenes_of(given).truth)
    begin = time.process_time()
    seconds = timed(lambda: analyse(study, [choose("nms")]))
    busy = time.process_time() - begin
    return {"analyse": seconds, "seconds of all cores": busy, "peak": peak()}


def measure_peers(given: argparse.Namespace) -> dict[str, float]:
    scenes = scenes_of(given)
    results = as_dicts(load_boxes(given.folder / "nms.npz"))
    sides = {
        "postnms": lambda: list(coco_metrics(scenes.truth, results).values()),
        "faster-coco-eval": lambda: by_faster_coco_eval(scenes, results),
        "pycocotools": lambda: by_pycocotools(scenes, results),
    }
    with contextlib.suppress(ImportError):
        hotcoco = importlib.import_module("hotcoco")
        sides["hotcoco"] = lambda: by_hotcoco(hotcoco, scenes, results)
    figures = {name: np.array(call(), np.float64) for name, call in sides.items()}
    seconds = {name: [] for name in sides}
    for _ in range(given.rounds):
        for name, call in sides.items():
            seconds[name].append(timed(call))
    apart = max(abs(other - figures["postnms"]).max() for other in figures.values())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return medians | {"largest difference of a figure": float(apart)}


def by_pycocotools(scenes: Scenes, results: list[dict]) -> np.ndarray:
    import pycocotools.coco
    import pycocotools.cocoeval

    with contextlib.redirect_stdout(io.StringIO()):
        reference = pycocotools.coco.COCO()
        reference.dataset = scenes.as_lists()
        reference.createIndex()
        # It adds fields to the entries, so it gets entries of its own.
        found = reference.loadRes([dict(entry) for entry in results])
        evaluator = pycocotools.cocoeval.COCOeval(reference, found, "bbox")
        return evaluated(evaluator)


def by_faster_coco_eval(scenes: Scenes, results: list[dict]) -> np.ndarray:
    import faster_coco_eval

    reference = faster_coco_eval.COCO(scenes.as_lists())
    found = reference.loadRes([dict(entry) for entry in results])
    return evaluated(
        faster_coco_eval.COCOeval_faster(
            reference, found, "bbox", print_function=lambda *_, **__: None
        )
    )


def by_hotcoco(hotcoco, scenes: Scenes, results: list[dict]) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        reference = hotcoco.COCO(scenes.as_lists())
        return evaluated(hotcoco.COCOeval(reference, reference.load_res(results), "bbox"))


def evaluated(evaluator) -> np.ndarray:
    """Return the 12 figures of an evaluator with the methods of pycocotools, in per cent."""
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return 100 * np.asarray(evaluator.stats[:12], np.float64)


PARTS = {
    "rows": measure_rows,
    "peers": measure_peers,
    "compare": lambda given: measure_compare(given, given.resamples),
    "compare without resamples": lambda given: measure_compare(given, 0),
    "analyse": measure_analyse,
}


def run_child(part: str, given: argparse.Namespace, source: Path | None) -> dict[str, float]:
    """Measure a part in a process of its own, with the library in ``source`` if it is given."""
    numbers = {
        name: str(getattr(given, name))
        for name in ("images", "objects", "classes", "detections", "candidates", "resamples",
                     "rounds", "threads")
    }  # fmt: skip
    words = [word for name, value in numbers.items() for word in (f"--{name}", value)]
    environment = dict(os.environ)
    if source is not None:
        environment["PYTHONPATH"] = str(source.resolve())
    command = [sys.executable, __file__, "--child", part, "--folder", str(given.folder), *words]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def show(part: str, figures: dict[str, float], which: str) -> None:
    """Print the figures of a part, and whether they meet what is aimed at."""
    print(f"{part}, {which}:")
    limits = TARGETS.get(part, (None, None))
    for name, value in figures.items():
        limit = {part: limits[0], "peak": limits[1]}.get(name)
        aim = ""
        if limit is not None:
            aim = f"  (aim: at most {limit:g}, {'met' if value <= limit else 'MISSED'})"
        print(f"    {name:38} {value:10.3g}{aim}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = ["rows", "peers", "compare", "analyse"]
    parser.add_argument("--parts", nargs="+", choices=every, default=every)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=36000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--detections", type=int, default=100, help="of an image in a row")
    parser.add_argument("--candidates", type=int, default=1000, help="of an image")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--before", type=Path, help="folder `src` of another checkout")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument(
        "--folder", type=Path, help="where the random data are kept; default: they are removed"
    )
    return parser.parse_args()


def main() -> None:
    given = parse()
    torch.set_num_threads(given.threads)
    if given.child is not None:
        print(json.dumps(PARTS[given.child](given)))
        return
    parts = [
        name
        for part in given.parts
        for name in ([part, f"{part} without resamples"] if part == "compare" else [part])
    ]
    with tempfile.TemporaryDirectory() as folder:
        given.folder = given.folder or Path(folder)
        write_data(given)
        for part in parts:
            sources = {"this checkout": None}
            if given.before is not None and part != "peers":
                sources["before"] = given.before
            for which, source in sources.items():
                show(part, run_child(part, given, source), which)


if __name__ == "__main__":
    main()
