"""Runs that were stopped go on as if they had not been; what cannot be continued exactly is refused."""

import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import save_file

from postnms.errors import UserError
from postnms.runs.checkpoints import load_tensors, save_tensors
from postnms.runs.folder import RunFolder
from postnms.training import loop as training
from tests.test_training import TINY, logged, run, tiny


@pytest.fixture(autouse=True)
def _one_process():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resuming_continues_to_the_last_digit(tmp_path, precision):
    changes = (
        "training.iterations=6",
        "training.checkpoint_every=3",
        f"training.precision={precision}",
    )
    whole = run(tmp_path / "whole", tiny(*changes))
    AcceleratorState._reset_state(reset_partial_state=True)

    interrupted = tmp_path / "interrupted"
    step = training.training_step
    calls = []

    def stop_in_the_fifth(*args):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(*args)

    training.training_step = stop_in_the_fifth
    try:
        with pytest.raises(KeyboardInterrupt):
            run(interrupted, tiny(*changes))
    finally:
        training.training_step = step
    assert list(logged(interrupted)) == [1, 2, 3, 4]
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.rand(7)  # another state of the generator
    resumed = run(interrupted, tiny(*changes), resume=True)
    assert logged(interrupted) == logged(tmp_path / "whole")
    for mine, theirs in zip(
        resumed.state_dict().values(), whole.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


def launched(processes, module, *words):
    """``python -m module words`` in one process, or in several that ``accelerate launch`` starts on the CPU."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = [
        "--multi_gpu",
        "--num_processes",
        processes,
        "--num_machines",
        1,
        "--main_process_port",
        port,
    ]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher = ["-m", "accelerate.commands.launch", *options] if processes > 1 else []
    command = [sys.executable, *map(str, [*launcher, "-m", module, *words])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )


def finish(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def kill(process):
    """With no chance to tidy up: the launcher and what it started."""
    family = [*psutil.Process(process.pid).children(recursive=True), process]
    for member in family:
        member.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_resumes_to_the_last_digit(tmp_path, processes):
    overrides = [*TINY, "training.iterations=40", "training.checkpoint_every=4"]
    sets = [part for override in overrides for part in ("--set", override)]
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    finish(launched(processes, "postnms", "train", "demo", *sets, "--out", whole.root))
    running = launched(processes, "postnms", "train", "demo", *sets, "--out", killed.root)
    while not killed.log.is_file() or killed.log.read_text().count("\n") < 10:
        assert running.poll() is None
        time.sleep(0.02)
    kill(running)
    assert not killed.metrics.is_file()
    finish(launched(processes, "postnms", "train", "demo", *sets, "--out", killed.root, "--resume"))
    assert len(logged(whole.root)) == 40
    assert logged(killed.root) == logged(whole.root)
    assert whole.metrics.read_text() == killed.metrics.read_text()
    assert json.loads(whole.provenance.read_text())["processes"] == processes

    found = scores_by_image(whole)
    assert sum(map(len, found.values())) > 20
    finish(launched(1, "postnms", "eval", whole.root))
    assert scores_by_image(whole) == {
        image: pytest.approx(scores, rel=1e-4) for image, scores in found.items()
    }


def scores_by_image(folder):
    scores = {}
    for entry in json.loads(folder.results("post_nms").read_text()):
        scores.setdefault(entry["image_id"], []).append(entry["score"])
    return {image: sorted(values) for image, values in scores.items()}


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    run(tmp_path, tiny("training.iterations=1"))
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(
        UserError,
        match=r"checkpoint\.safetensors: of another recipe: stage\.width: 4 here, 8 there",
    ):
        run(tmp_path, tiny("training.iterations=1", "stage.width=4"), resume=True)


def test_a_checkpoint_of_other_processes_is_refused(tmp_path):
    run(tmp_path, tiny("training.iterations=1"))
    AcceleratorState._reset_state(reset_partial_state=True)
    path = RunFolder(tmp_path).checkpoint
    tensors, about = load_tensors(path)
    save_tensors(path, {**tensors, "rng.1.cpu": tensors["rng.0.cpu"].clone()}, about)
    with pytest.raises(
        UserError, match=r"expected the random states 0\.cpu of these .*, got 0\.cpu, 1\.cpu"
    ):
        run(tmp_path, tiny("training.iterations=1"), resume=True)


def test_resuming_needs_no_weights_to_start_from(tmp_path):
    weights = tmp_path / "backbone.safetensors"
    body = training.build_run_detector(tiny("training.iterations=1"), 5).network.backbone.body
    save_file({name: tensor.contiguous() for name, tensor in body.state_dict().items()}, weights)
    recipe = tiny("training.iterations=1", f"detector.backbone.weights={weights}")
    run(tmp_path / "run", recipe)
    weights.unlink()
    AcceleratorState._reset_state(reset_partial_state=True)
    run(tmp_path / "run", recipe, resume=True)
