"""Readers of the files of a run, and checks of what they give.

Each takes the path of a damaged file and that of the undamaged one. The library promises that
weights and checkpoints which it reads are those that it wrote: damage is refused, or it changed
nothing, such as white space of the header.
"""

import json
import math
from functools import cache

import torch
from torch import Tensor

from postnms.data.dataset import Category
from postnms.distributed.processes import get_accelerator
from postnms.errors import UserError
from postnms.experiments.config import read_experiment
from postnms.experiments.plan import make_plan
from postnms.files.state_dicts import load_weights, read_state_dict
from postnms.files.tensor_files import load_tensors
from postnms.recipes import Recipe, open_recipe, write_recipe
from postnms.report.compared import find_candidates, read_comparison
from postnms.report.sources import Source
from postnms.report.tables import table_of
from postnms.runs import checkpoints
from postnms.runs.checkpoints import own_state
from postnms.runs.folder import (
    RunFolder,
    begin_run,
    read_categories,
    read_data_folder,
    read_recipe,
    read_val_hash,
)
from postnms.runs.loading import build_run_detector, load_detector, start_from
from postnms.runs.thresholds import read_best_f1
from postnms.training.optimizer import build_optimizer
from postnms.training.report import TrainingReport
from postnms.training.resume import resume_training
from postnms.training.schedule import schedule_of
from postnms.training.state import Trained
from tests.fuzz.cases import WrongResultError
from tests.fuzz.models import LABELS, tiny_model, tiny_optimizer
from tests.fuzz.read_data import require

CATEGORIES = tuple(Category(entry["id"], entry["name"]) for entry in LABELS)


def read_recipe_file(path, undamaged):
    """Read a recipe; what was read must be a recipe that can be written and read again."""
    folder = RunFolder(path.parent)
    folder.recipe.write_bytes(path.read_bytes())
    recipe = read_recipe(folder)
    again = again_of(recipe)
    require(again == recipe, "the recipe written and read again")
    require(recipe.differences(again) == [], "differences to itself")


def read_own_recipe(path, undamaged):
    """Read a recipe file of a user; what was read can be written as a file and read again."""
    recipe = open_recipe(str(path))
    other = path.parent / "again"
    other.mkdir(exist_ok=True)
    again = other / f"{path.stem}.yaml"
    again.unlink(missing_ok=True)
    write_recipe(recipe, again)
    named = recipe.model_copy(update={"name": path.stem})
    require(open_recipe(str(again)) == named, "the recipe written and read again")


def read_experiment_file(path, undamaged):
    """Read the file of an experiment; every arm has a run with every seed."""
    plan = make_plan(read_experiment(path), path.parent / "runs")
    config = plan.experiment.config
    pairs = {(run.arm, run.recipe.seed) for run in plan.runs}
    require(len(plan.runs) == len(pairs) == len(config.arms) * len(config.seeds), "number of runs")
    require(len(plan.differences) == len(config.differences), "number of differences")


def again_of(recipe):
    try:
        return Recipe.parse(json.loads(json.dumps(recipe.model_dump(mode="json"))), "again")
    except UserError as error:
        raise WrongResultError("an accepted recipe is refused when read again") from error


def read_labels(path, undamaged):
    """Read a label map; no id and no name may become another one."""
    categories = read_categories(RunFolder(path.parent))
    entries = json.loads(path.read_bytes())
    require(isinstance(entries, list), "the label map is no list")
    require(len(categories) == len(entries), "number of classes")
    for category, entry in zip(categories, entries, strict=True):
        require(type(category.id) is int and isinstance(category.name, str), "type of a class")
        same = category.id == entry["id"] and not isinstance(entry["id"], bool)
        require(same and category.name == entry["name"], "another class than the file has")
    require(len({category.id for category in categories}) == len(categories), "an id twice")


def read_provenance(path, undamaged):
    """Read where the data of a run lie, and go on with the run."""
    folder = RunFolder(path.parent)
    read_data_folder(folder)
    read_val_hash(folder)
    begin_run(folder, read_recipe(folder), CATEGORIES, None, resume=True)
    after = json.loads(folder.provenance.read_bytes())
    require(
        isinstance(after["resumed"], list) and isinstance(after["resumed"][-1], dict), "resumed"
    )


def read_metrics(path, undamaged):
    """Read the thresholds of a run; what was read are finite numbers."""
    for best in read_best_f1(RunFolder(path.parent)).values():
        values = [] if best is None else [best.score, best.f1, best.precision, best.recall]
        require(all(map(math.isfinite, values)), "finite thresholds")


def read_pictures(path, undamaged):
    """Begin a run in the folder of another one, whose pictures are removed."""
    folder = RunFolder(path.parent)
    outside = folder.root.with_name("outside.txt")
    kept = [outside, folder.root / "notes.txt", folder.root / "pictures" / "mine.png"]
    for file in kept:
        file.parent.mkdir(exist_ok=True)
        file.write_text("kept")
    begin_run(folder, read_recipe(folder), CATEGORIES, None, resume=False)
    require(all(file.is_file() for file in kept), "a file of the user was removed")


def read_compared(path, undamaged):
    """Make the table of a comparison in a report; what was read are finite numbers."""
    comparison = read_comparison(path.parent)
    find_candidates(path.parent, comparison)
    for row in table_of(Source("compared", None, lines=comparison.lines), None):
        numbers = [*row.figures.values(), row.gain, row.low, row.high, row.milliseconds]
        require(all(map(math.isfinite, filter(None, numbers))), "finite figures")


def read_log(path, undamaged):
    """Cut the log of a run that is resumed after its first iteration."""
    folder = RunFolder(path.parent)
    config = read_recipe(folder).training
    TrainingReport(folder, config, schedule_of(config, 3), get_accelerator(), 1)
    for line in folder.log.read_text().splitlines():
        require(json.loads(line)["iteration"] <= 1, "a line after the iteration")


def read_weights(path, undamaged):
    """Load weights as those of a run, and as those that another run starts from."""
    tensors, about = load_tensors(path)
    model = tiny_model()
    load_weights(model, own_state(tensors), str(path))
    check_state(model.state_dict(), own_state(tensors_of(undamaged)[0]))
    require(about == tensors_of(undamaged)[1], "facts about the weights")
    other = tiny_model()
    start_from(other, path, CATEGORIES)
    check_state(other.state_dict(), model.state_dict())


def read_checkpoint(path, undamaged):
    """Resume the training of a tiny model."""
    model = tiny_model()
    resume(path, undamaged, model, tiny_optimizer(model), CATEGORIES)


def resume(path, undamaged, model, optimizer, categories):
    """Resume a run, and compare the model, the optimizer and the generators with what was saved."""
    folder = RunFolder(path.parent)
    recipe = read_recipe(folder)
    before = torch.get_rng_state()
    digest = tensors_of(undamaged)[1]["data_digest"]
    schedule = schedule_of(recipe.training, 3)
    trained = Trained(model, model, optimizer)
    checkpoint = checkpoints.read_checkpoint(folder)
    finished = resume_training(
        checkpoint, recipe, digest, schedule, folder, categories, trained, get_accelerator()
    )
    generator = torch.get_rng_state()
    torch.set_rng_state(before)
    wanted, about = tensors_of(undamaged)
    require(finished == about["finished"], "number of finished iterations")
    check_state(model.state_dict(), own_state(wanted))
    check_state({"0.cpu": generator}, below("rng.", wanted))
    slots = {
        f"{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    check_state(slots, below("optimizer.", wanted))


def read_run(path, undamaged):
    """Load the detector of a whole run, or resume its training, as the damaged file is for."""
    folder = RunFolder(path.parent)
    if path == folder.checkpoint:
        recipe = read_recipe(folder)
        categories = read_categories(folder)
        model = detector_of(undamaged.parent)
        resume(path, undamaged, model, build_optimizer(model, recipe.training), categories)
        return
    detector = load_detector(folder)
    wanted = own_state(tensors_of(undamaged.with_name("weights.safetensors"))[0])
    check_state(detector.state_dict(), wanted)


@cache
def detector_of(root):
    """Return the detector of an undamaged run, which is changed by everyone who gets it."""
    folder = RunFolder(root)
    return build_run_detector(read_recipe(folder), len(read_categories(folder)))


def read_foreign_weights(path, undamaged):
    """Read the state dict of another program, in which damaged numbers cannot be told."""
    state = read_state_dict(path, "detector.weights")
    require(all(isinstance(name, str) for name in state), "a name")
    require(all(isinstance(tensor, Tensor) for tensor in state.values()), "a tensor")
    load_weights(tiny_model(), state, str(path))


@cache
def tensors_of(path):
    """Return the tensors of an undamaged file and the facts about them."""
    return load_tensors(path)


def below(prefix, tensors):
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def check_state(state, wanted):
    """Check that two state dicts are equal to the last bit."""
    require(state.keys() == wanted.keys(), "other names than were saved")
    for name, tensor in state.items():
        saved = wanted[name]
        same = tensor.dtype == saved.dtype and tensor.shape == saved.shape
        # As bytes, since NaN is not equal to itself.
        same = same and bits(tensor) == bits(saved)
        require(same, "other tensors than were saved")


def bits(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
