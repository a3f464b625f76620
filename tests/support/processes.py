"""Command lines that run in processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys


def launched(processes, module, *words, by="accelerate"):
    """``python -m module words`` in one process, or in several that a launcher starts on the CPU.

    ``by`` names the launcher: ``accelerate`` or ``torchrun``.
    """
    launcher = {"accelerate": accelerate_launch, "torchrun": torchrun}[by](processes)
    given = [*(launcher if processes > 1 else []), "-m", module, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, given)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        # A shell that starts the tests in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def accelerate_launch(processes):
    options = ["--multi_gpu", "--num_processes", processes, "--num_machines", 1]
    options += ["--main_process_port", free_port()]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    return ["-m", "accelerate.commands.launch", *options]


def torchrun(processes):
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def finish(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def scores_by_image(folder):
    scores = {}
    for entry in json.loads(folder.results("post_nms").read_text()):
        scores.setdefault(entry["image_id"], []).append(entry["score"])
    return {image: sorted(values) for image, values in scores.items()}
