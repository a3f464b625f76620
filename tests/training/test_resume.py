"""Runs that were stopped go on as if they had not been, or are refused where they cannot."""

import json
import shutil
import time

import psutil
import pytest
import torch
from safetensors.torch import save_file

from postnms.errors import UserError
from postnms.evaluation.columns import concatenate_columns
from postnms.evaluation.results import BestF1, Evaluation
from postnms.files.tensor_files import load_tensors, save_tensors
from postnms.runs.folder import RunFolder, read_recipe, write_evaluation, write_results
from postnms.runs.loading import build_run_detector, load_detector
from postnms.runs.thresholds import read_best_f1
from postnms.training.stopping import TrainingStopped
from tests.support import killed as driver
from tests.support.processes import finish, launched, scores_by_image
from tests.support.runs import TINY, logged, run, tiny

BEST = BestF1(0.4, 0.5, 0.6, 0.43)
NOTHING = concatenate_columns([], [])

SCENES = ("--train", 4, "--val", 2, "--size", 64)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resuming_continues_to_the_last_digit(tmp_path, monkeypatch, before_steps, precision):
    changes = (
        "training.iterations=6",
        "training.checkpoint_every=3",
        f"training.precision={precision}",
    )
    whole = run(tmp_path / "whole", tiny(*changes))

    def stop_in_the_fifth(number, _):
        if number == 5:
            raise KeyboardInterrupt

    before_steps(stop_in_the_fifth)
    interrupted = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        run(interrupted, tiny(*changes))
    monkeypatch.undo()
    assert list(logged(interrupted)) == [1, 2, 3, 4]
    torch.rand(7)  # The state of the generator is another one now.
    resumed = run(interrupted, tiny(*changes), resume=True)
    assert logged(interrupted) == logged(tmp_path / "whole")
    for mine, theirs in zip(
        resumed.state_dict().values(), whole.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_a_run_goes_on_in_another_precision(tmp_path):
    changes = ("training.iterations=2", "training.checkpoint_every=1")
    run(tmp_path, tiny(*changes, "training.precision=float32"))
    longer = ("training.iterations=3", "training.precision=bf16", "training.checkpoint_every=1")
    run(tmp_path, tiny(*longer), resume=True)
    assert list(logged(tmp_path)) == [1, 2, 3]
    about = json.loads(RunFolder(tmp_path).provenance.read_text())
    assert about["precision"] == "float32"
    assert [part["precision"] for part in about["resumed"]] == ["bf16"]


def test_a_run_that_goes_on_after_its_end_is_that_of_its_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    run(tmp_path, tiny("training.iterations=1"))
    assert folder.newest_weights == folder.weights
    for name in ("test", "val"):
        write_results(folder, Evaluation({}, best_f1={"nms": BEST}), {"nms": NOTHING}, name)
        write_evaluation(folder, read_recipe(folder), None, split=name, measured=name)
    assert read_best_f1(folder) == {"nms": BEST}
    with pytest.raises(TrainingStopped):
        run(tmp_path, tiny("training.iterations=3"), resume=True, stop=lambda: True)
    assert folder.newest_weights == folder.checkpoint
    tensors, about = load_tensors(folder.checkpoint)
    assert about["finished"] == 2
    for name, value in load_detector(folder).state_dict().items():
        assert torch.equal(value, tensors[f"model.{name}"])
    # What was measured of the shorter run does not hold for the weights of the checkpoint.
    assert read_best_f1(folder) == {}
    kinds = ("metrics*", "evaluation*", "results*", "splits*")
    assert [path.name for kind in kinds for path in tmp_path.glob(kind)] == []


def kill(process):
    """With no chance to tidy up: the launcher and what it started."""
    family = [*psutil.Process(process.pid).children(recursive=True), process]
    for member in family:
        member.kill()
    process.communicate()


@pytest.mark.slow
def test_a_killed_run_of_two_processes_resumes_to_the_last_digit(tmp_path, postnms):
    """``tests/kills`` has runs of one process. In the finishing phase, fewer weights share their
    gradients."""
    lengths = ["training.iterations=5", "training.finish_iterations=4"]
    changes = [*TINY, *lengths, "training.checkpoint_every=4"]
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    roots = (whole.root, killed.root)
    running = launched(2, "tests.support.killed", *roots, *changes, by="torchrun")
    while not killed.log.is_file() or killed.log.read_text().count("\n") < driver.LAST:
        assert running.poll() is None, running.stderr.read().decode()
        time.sleep(0.02)
    kill(running)
    assert not killed.metrics.is_file()
    assert load_tensors(killed.checkpoint)[1]["finished"] == 4
    finish(launched(2, "postnms", "train", "--resume", killed.root))
    assert len(logged(whole.root)) == 9
    assert logged(killed.root) == logged(whole.root)
    assert whole.metrics.read_text() == killed.metrics.read_text()
    assert json.loads(whole.provenance.read_text())["processes"] == 2

    found = scores_by_image(whole)
    assert sum(map(len, found.values())) > 20
    assert postnms("eval", whole.root)[0] == 0
    assert scores_by_image(whole) == {
        image: pytest.approx(scores, rel=1e-4) for image, scores in found.items()
    }


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    run(tmp_path, tiny("training.iterations=1"))
    with pytest.raises(
        UserError,
        match=r"checkpoint\.safetensors: of another recipe: stage\.width: 4 here, 8 there",
    ):
        run(tmp_path, tiny("training.iterations=1", "stage.width=4"), resume=True)


def test_a_run_goes_on_with_other_settings_that_change_nothing_finished(tmp_path, caplog):
    steps = ("training.steps=[3,7]", "training.iterations=4")
    whole = run(tmp_path / "whole", tiny("training.iterations=6", "training.steps=[3,5]"))
    run(tmp_path / "run", tiny(*steps))
    changes = (
        "training.iterations=6",
        "training.steps=[3,5]",
        "data.workers=1",
        "training.evaluate_every=5",
    )
    resumed = run(tmp_path / "run", tiny(*changes), resume=True)
    for mine, theirs in zip(
        resumed.state_dict().values(), whole.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)
    (line,) = [text for text in caplog.messages if text.startswith("resuming")]
    assert "resuming with changes of settings: " in line
    assert "training.iterations: 6 here, 4 there" in line
    assert "data.workers: 1 here, 0 there" in line
    assert read_recipe(RunFolder(tmp_path / "run")) == tiny(*changes)


def test_the_learning_rates_of_finished_iterations_stay(tmp_path):
    run(tmp_path, tiny("training.iterations=3"))
    message = (
        r"training\.steps: the learning rate of the finished iteration 2 would be .*, and it was"
    )
    with pytest.raises(UserError, match=message):
        run(tmp_path, tiny("training.iterations=3", "training.steps=[2]"), resume=True)


def test_a_run_goes_on_with_another_number_of_processes(tmp_path, caplog):
    run(tmp_path, tiny("training.iterations=1"))
    path = RunFolder(tmp_path).checkpoint
    tensors, about = load_tensors(path)
    save_tensors(path, {**tensors, "rng.1.cpu": tensors["rng.0.cpu"].clone()}, about)
    run(tmp_path, tiny("training.iterations=2"), resume=True)
    assert "processes: 1 here, 2 there" in caplog.text
    assert list(logged(tmp_path)) == [1, 2]


def test_a_run_does_not_go_on_with_other_data(tmp_path, postnms):
    for name, seed in (("first", 0), ("second", 1)):
        postnms("scenes", "--out", tmp_path / name, *SCENES, "--seed", seed)
    sets = [part for change in (*TINY, "training.iterations=1") for part in ("--set", change)]
    begin = ("train", "demo", *sets, "--out", tmp_path / "run", "--data")
    assert postnms(*begin, tmp_path / "first")[0] == 0
    resume = ("train", "--resume", tmp_path / "run", "--data")
    status, _, shown = postnms(*resume, tmp_path / "second")
    assert (status, "was trained on other images or annotations" in shown) == (2, True)
    # The same data in another place are the same data, and `eval` finds them there.
    moved = (tmp_path / "first").rename(tmp_path / "moved")
    assert postnms(*resume, moved)[0] == 0
    assert postnms("eval", tmp_path / "run")[0] == 0


def test_the_older_checkpoint_gives_the_same_run(tmp_path, monkeypatch, before_steps, caplog):
    changes = ("training.iterations=6", "training.checkpoint_every=2")
    whole = run(tmp_path / "whole", tiny(*changes))

    def stop_in_the_sixth(number, _):
        if number == 6:
            raise KeyboardInterrupt

    before_steps(stop_in_the_sixth)
    folder = RunFolder(tmp_path / "damaged")
    with pytest.raises(KeyboardInterrupt):
        run(folder.root, tiny(*changes))
    monkeypatch.undo()
    content = bytearray(folder.checkpoint.read_bytes())
    content[-9] ^= 4
    folder.checkpoint.write_bytes(content)
    resumed = run(folder.root, tiny(*changes), resume=True)
    assert "using the one before it, of iteration 2" in caplog.text
    assert logged(folder.root) == logged(tmp_path / "whole")
    for mine, theirs in zip(
        resumed.state_dict().values(), whole.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_two_processes_do_not_train_in_one_folder(tmp_path, postnms):
    holder = launched(1, "tests.support.holder", tmp_path / "run", "a long training")
    while not (tmp_path / "run" / ".lock").is_file():
        time.sleep(0.02)
    sets = [part for change in TINY for part in ("--set", change)]
    status, _, shown = postnms("train", "demo", *sets, "--out", tmp_path / "run")
    kill(holder)
    assert status == 2
    assert f"is in use by process {holder.pid} on" in shown
    assert "(a long training)" in shown
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock"]


def test_resuming_needs_no_weights_to_start_from(tmp_path):
    weights = tmp_path / "backbone.safetensors"
    body = build_run_detector(tiny("training.iterations=1"), 5).network.backbone.body.network
    save_file({name: tensor.contiguous() for name, tensor in body.state_dict().items()}, weights)
    recipe = tiny("training.iterations=1", f"detector.backbone.weights={weights}")
    run(tmp_path / "run", recipe)
    weights.unlink()
    run(tmp_path / "run", recipe, resume=True)


DAMAGES = {
    "finished: expected 0 to 2 iterations, got 1000000000": (
        lambda tensors: tensors,
        {"finished": 10**9},
    ),
    "finished: expected 0 to 2 iterations, got True": (lambda tensors: tensors, {"finished": True}),
    "recipe: expected an object": (lambda tensors: tensors, {"recipe": None}),
    "expected torch.float32, got torch.float16": (
        lambda tensors: {
            name: value.half() if value.is_floating_point() else value
            for name, value in tensors.items()
        },
        {},
    ),
    "expected the states of the random generators, got none": (
        lambda tensors: {n: v for n, v in tensors.items() if not n.startswith("rng.")},
        {},
    ),
    "trained on other images or annotations": (lambda tensors: tensors, {"data_digest": "0"}),
    "expected the state of the optimizer, got none": (
        lambda tensors: {n: v for n, v in tensors.items() if not n.startswith("optimizer.")},
        {},
    ),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path, trained_run, message):
    folder = RunFolder(shutil.copytree(trained_run, tmp_path / "run"))
    tensors, about = load_tensors(folder.checkpoint)
    change, facts = DAMAGES[message]
    save_tensors(folder.checkpoint, change(tensors), {**about, **facts})
    with pytest.raises(UserError, match=message):
        run(folder.root, tiny("training.iterations=2"), resume=True)
