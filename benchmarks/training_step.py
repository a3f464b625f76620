"""Time training with the stage beside training without it, and a frozen detector that remembers.

    python benchmarks/training_step.py --data FOLDER [--recipe faster_rcnn_r18_small] [--rounds 60]
    python benchmarks/training_step.py --data FOLDER --frozen [--run RUN]

It prints the seconds of an iteration and their ratio. Two detectors of one recipe, with and without
the stage, take turns on the same batches of the training split. The loading of a batch is timed
once and counted for both. With ``--run FOLDER`` both continue from the end of a run, at its last
learning rate. The number and the kind of the candidates differ there from those at the start.

With ``--frozen`` the stage alone is trained, on a detector that is frozen, once with
``training.feature_memory`` and once without it. The memory is empty at the first step that is
timed, and images are only turned. So ``--rounds`` is the length of a run from its beginning:
without it, all iterations of the recipe. The sums over all steps are compared.
"""

import argparse
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.optim import Optimizer

from postnms.cli.console import command_line
from postnms.data.loader import Batch, DetectionData
from postnms.data.splits import open_splits
from postnms.detectors import Detector
from postnms.detectors.frozen import FeatureMemory
from postnms.distributed.processes import get_accelerator
from postnms.files.atomic import write_json
from postnms.files.tensor_files import load_tensors
from postnms.recipes import Recipe, get_recipe, override, parse_changes
from postnms.runs.checkpoints import own_state
from postnms.runs.folder import RunFolder, read_recipe
from postnms.runs.loading import build_run_detector
from postnms.runs.provenance import provenance
from postnms.training.loop import batches_per_epoch, training_batches
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.schedule import Schedule, schedule_of
from postnms.training.step import training_step

MOST_SHARE = 0.25
"""Largest share of the time without the memory that training with it should take."""
ROUNDS = 60
"""Iterations that are timed, unless the detector is frozen."""
LOADING = "loading"

Sides = dict[str, tuple[Detector, Optimizer]]
"""The detectors that take turns, by name, each with its optimizer."""
Seconds = dict[str, list[tuple[float, float]]]
"""Seconds by the clock and of the processor in each iteration, by side, and those of loading."""


def build(recipe: Recipe, num_classes: int, run: RunFolder | None) -> Detector:
    """Return the detector of a recipe in training mode.

    Its weights are those of ``run``. One of the two may have a stage that the other lacks: a stage
    that the run lacks has random weights. None: all weights are random.
    """
    set_seed(recipe.seed)
    detector = build_run_detector(recipe, num_classes).train()
    if run is not None:
        learned = own_state(load_tensors(run.weights)[0])
        own = detector.state_dict()
        missing = {name for name in own if name not in learned}
        assert all(name.startswith("stage.") for name in missing), missing
        detector.load_state_dict({name: learned.get(name, own[name]) for name in own})
    return detector


def add_side(sides: Sides, name: str, detector: Detector, recipe: Recipe, to: Accelerator) -> None:
    """Add a detector with a new optimizer to the sides."""
    detector = detector.to(to.device)
    sides[name] = (detector, build_optimizer(detector, recipe.training))


def time_steps(
    sides: Sides,
    batches: Iterable[Batch],
    recipe: Recipe,
    schedule: Schedule,
    first: int,
    accelerator: Accelerator,
) -> Seconds:
    """Let the sides take turns on every batch, with the learning rate of iteration ``first`` on."""
    seconds: Seconds = {name: [] for name in (LOADING, *sides)}
    source = iter(batches)
    begin = clocks()
    for iteration, batch in enumerate(source):
        seconds[LOADING].append(since(begin))
        for name, (detector, optimizer) in sides.items():
            set_learning_rate(optimizer, schedule.learning_rate(max(iteration, first)))
            begin = clocks()
            training_step(detector, optimizer, batch, recipe.training, accelerator)
            seconds[name].append(since(begin))
        begin = clocks()
    return seconds


def clocks() -> tuple[float, float]:
    """Return the time of the clock and that of the processor, in seconds."""
    return time.perf_counter(), time.process_time()


def since(begin: tuple[float, float]) -> tuple[float, float]:
    """Return the seconds since an earlier result of ``clocks``."""
    end = clocks()
    return end[0] - begin[0], end[1] - begin[1]


def compare_stage(
    recipe: Recipe,
    data: DetectionData,
    run: RunFolder | None,
    rounds: int,
    warmup: int,
    accelerator: Accelerator,
) -> dict[str, object]:
    """Time training with and without the stage, print the medians and return them."""
    sides: Sides = {}
    for name, changes in (("without", {"stage": None}), ("with", {})):
        side = override(recipe, changes)
        detector = build(side, len(data.dataset.categories), run)
        add_side(sides, name, detector, side, accelerator)
    config = recipe.training
    schedule = schedule_of(config, batches_per_epoch(data, config.batch_size))
    first = schedule.iterations - 1 if run else 0
    batches = training_batches(recipe, data, warmup + rounds, 0, accelerator)
    seconds = time_steps(sides, batches, recipe, schedule, first, accelerator)
    medians = {
        name: statistics.median(clock for clock, _ in values[warmup:])
        for name, values in seconds.items()
    }
    whole = {name: medians[name] + medians[LOADING] for name in sides}
    epochs = {name: value * len(data) / config.batch_size for name, value in whole.items()}
    ratio = whole["with"] / whole["without"]
    for name in sides:
        print(
            f"{name:8s} {whole[name]:.3f} s an iteration, "
            f"{epochs[name]:.1f} s an epoch of {len(data)} images"
        )
    print(f"ratio    {ratio:.2f} (loading, counted in both: {1000 * medians[LOADING]:.1f} ms)")
    return {"seconds_per_iteration": whole, "seconds_per_epoch": epochs, "ratio": ratio}


def compare_frozen(
    recipe: Recipe,
    data: DetectionData,
    run: RunFolder | None,
    rounds: int | None,
    warmup: int,
    accelerator: Accelerator,
) -> dict[str, object]:
    """Time a frozen detector with and without the memory, print the sums and return them."""
    data = data.only_turned()
    config = recipe.training
    schedule = schedule_of(config, batches_per_epoch(data, config.batch_size))
    rounds = schedule.iterations if rounds is None else rounds
    sides: Sides = {}
    for name in ("without", "with"):
        detector = build(recipe, len(data.dataset.categories), run)
        detector.freeze()
        add_side(sides, name, detector.train(), recipe, accelerator)
    time_steps(
        sides, training_batches(recipe, data, warmup, 0, accelerator),
        recipe, schedule, 0, accelerator,
    )  # fmt: skip
    memory = FeatureMemory(int(config.feature_memory_gib * 2**30))
    sides["with"][0].memory = memory
    batches = training_batches(recipe, data, rounds, 0, accelerator)
    seconds = time_steps(sides, batches, recipe, schedule, 0, accelerator)
    figures: dict[str, object] = {"steps": rounds, "images_kept": len(memory)}
    last = batches_per_epoch(data, config.batch_size)
    for number, kind in enumerate(("clock", "processor")):
        columns = {name: [pair[number] for pair in pairs] for name, pairs in seconds.items()}
        sums = {name: sum(columns[name]) + sum(columns[LOADING]) for name in sides}
        late = {name: statistics.median(columns[name][-last:]) for name in sides}
        share = sums["with"] / sums["without"]
        figures[kind] = {"seconds": sums, "share": share, "step_of_last_epoch": late}
        print(
            f"{kind:9s} {rounds} steps, loading in both: {sums['without']:.1f} s without the "
            f"memory, {sums['with']:.1f} s with it; share {share:.3f}, at most {MOST_SHARE}: "
            f"{'met' if share <= MOST_SHARE else 'missed'}"
        )
        print(
            f"{'':9s} a step of the last epoch, without loading: "
            f"{1000 * late['without']:.0f} and {1000 * late['with']:.0f} ms"
        )
    print(f"{len(memory)} images of {len(data)}, turned ones counted, are kept")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="data folder; without it, the recipe's built-in data"
    )
    parser.add_argument("--recipe", default="faster_rcnn_r18_small")
    parser.add_argument("--run", type=Path, help="run folder whose recipe and weights are taken")
    parser.add_argument(
        "--set", nargs="*", default=[], help="changes to the recipe, for both sides"
    )
    parser.add_argument(
        "--frozen", action="store_true", help="time a frozen detector, with and without its memory"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"iterations that are timed; {ROUNDS}, or with --frozen all of the recipe",
    )
    parser.add_argument(
        "--warmup", type=int, default=40, help="iterations before the first that is timed"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()

    run = RunFolder(given.run) if given.run else None
    named = get_recipe(given.recipe)
    recipe = read_recipe(run) if run else named
    if recipe.stage is None:  # A run without a stage: that of the named recipe is put on it.
        recipe = recipe.model_copy(update={"stage": named.stage})
    recipe = override(recipe, parse_changes(given.set))
    data = open_splits(recipe.data, given.data, recipe.detector.input_size, recipe.seed).train
    accelerator = get_accelerator()
    if given.frozen:
        figures = compare_frozen(recipe, data, run, given.rounds, given.warmup, accelerator)
    else:
        rounds = given.rounds or ROUNDS
        figures = compare_stage(recipe, data, run, rounds, given.warmup, accelerator)
    if given.out:
        about = provenance(recipe.seed, given.data, command_line())
        write_json(given.out, {**about, **figures})


if __name__ == "__main__":
    main()
