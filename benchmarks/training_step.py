"""Time training with the stage beside training without it.

    python benchmarks/training_step.py --data FOLDER [--recipe faster_rcnn_r18_small] [--rounds 60]

It prints the seconds of an iteration and their ratio. Two detectors of one recipe, with and without
the stage, take turns on the same batches of the training split. The loading of a batch is timed
once and counted for both. With ``--run FOLDER`` both continue from the end of a run, at its last
learning rate. The number and the kind of the candidates differ there from those at the start.
"""

import argparse
import statistics
import time
from pathlib import Path

from accelerate.utils import set_seed

from postnms.cli.console import command_line
from postnms.data.splits import open_splits
from postnms.detectors import Detector
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
from postnms.training.schedule import schedule_of
from postnms.training.step import training_step


def build(recipe: Recipe, num_classes: int, run: RunFolder | None) -> Detector:
    """Return the detector of a recipe in training mode.

    Its weights are those of ``run``, which may have a stage that the recipe lacks. None: random
    weights.
    """
    set_seed(recipe.seed)
    detector = build_run_detector(recipe, num_classes).train()
    if run is not None:
        learned = own_state(load_tensors(run.weights)[0])
        # Without the stage, the weights of the run's stage are left over.
        detector.load_state_dict({name: learned[name] for name in detector.state_dict()})
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="data folder; without it, the recipe's built-in data"
    )
    parser.add_argument("--recipe", default="faster_rcnn_r18_small")
    parser.add_argument(
        "--run", type=Path, help="run folder with a stage, whose recipe and weights are taken"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], help="changes to the recipe, for both sides"
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument(
        "--warmup", type=int, default=40, help="iterations before the first that is timed"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()

    run = RunFolder(arguments.run) if arguments.run else None
    recipe = read_recipe(run) if run else get_recipe(arguments.recipe)
    recipe = override(recipe, parse_changes(arguments.set))
    splits = open_splits(recipe.data, arguments.data, recipe.detector.input_size, recipe.seed)
    accelerator = get_accelerator()
    sides = {}
    for name, changes in (("without", {"stage": None}), ("with", {})):
        side = override(recipe, changes)
        detector = build(side, len(splits.train.dataset.categories), run).to(accelerator.device)
        sides[name] = (detector, build_optimizer(detector, side.training))
    config = recipe.training
    schedule = schedule_of(config, batches_per_epoch(splits.train, config.batch_size))
    first = schedule.iterations - 1 if run else 0
    seconds: dict[str, list[float]] = {name: [] for name in ("loading", *sides)}
    batches = training_batches(recipe, splits.train, schedule.iterations, 0, accelerator)
    for iteration in range(arguments.warmup + arguments.rounds):
        begin = time.perf_counter()
        batch = next(batches)
        taken = {"loading": time.perf_counter() - begin}
        for name, (detector, optimizer) in sides.items():
            set_learning_rate(optimizer, schedule.learning_rate(max(iteration, first)))
            begin = time.perf_counter()
            training_step(detector, optimizer, batch, recipe.training, accelerator)
            taken[name] = time.perf_counter() - begin
        if iteration >= arguments.warmup:
            for name, value in taken.items():
                seconds[name].append(value)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    whole = {name: medians[name] + medians["loading"] for name in sides}
    epochs = {
        name: value * len(splits.train) / recipe.training.batch_size
        for name, value in whole.items()
    }
    ratio = whole["with"] / whole["without"]
    for name in sides:
        print(
            f"{name:8s} {whole[name]:.3f} s an iteration, "
            f"{epochs[name]:.1f} s an epoch of {len(splits.train)} images"
        )
    print(f"ratio    {ratio:.2f} (loading, counted in both: {1000 * medians['loading']:.1f} ms)")
    if arguments.out:
        figures = {"seconds_per_iteration": whole, "seconds_per_epoch": epochs, "ratio": ratio}
        about = provenance(recipe.seed, arguments.data, command_line())
        write_json(arguments.out, {**about, **figures})


if __name__ == "__main__":
    main()
