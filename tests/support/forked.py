"""Run the operations in a process, in several of its threads, and in processes that it forks.

``python -m tests.support.forked``. It prints one line for each place in which the results equal
those of the first run, which used several threads for each operation.

Set ``MKL_DISABLE_FAST_MM=1``. A thread that ends gives its buffers back to MKL's own memory manager
under a lock. A process that is forked at this moment would wait for the lock for ever.
"""

import multiprocessing
import os
import threading

import numba
import torch
from torch.utils.data import DataLoader, Dataset

from postnms.ops import cluster_nms, pool_convolved, pool_pyramid, threads
from postnms.ops.clustering import cpu
from tests.support.clustering import random_scene
from tests.support.detectors import TWO, build

DETECTOR = build("faster_rcnn").eval()


def share_everything():
    """Let two threads share the work of each kernel, however small it is.

    torch itself keeps to one thread, since its own threads do not survive a fork.
    """
    torch.set_num_threads(1)
    torch.get_num_threads = lambda: 2
    threads.LEAST_WORK = 0
    cpu.THREADS_FROM = 0


def operations():
    """The results of all operations, forward and backward, as one list of tensors."""
    random = torch.Generator().manual_seed(0)
    level = torch.randn(2, 6, 12, 12, generator=random, requires_grad=True)
    weight, bias = torch.randn(5, 6, 3, 3, generator=random), torch.zeros(5)
    boxes, image = random_scene(40)[0].abs().sort(dim=1).values, torch.arange(40) % 2
    where = {"0": level}, boxes, image, [8]
    pooled = [pool_pyramid(*where), pool_convolved(*where, weight, bias)]
    gradients = [torch.autograd.grad(part.square().sum(), level)[0] for part in pooled]
    return [*cluster_nms(*random_scene(200)), *(part.detach() for part in pooled), *gradients]


def detections():
    with torch.no_grad():
        output = DETECTOR(TWO)
    return [part for row in output.rows.values() for part in (row.boxes, row.scores)]


def agree(found, expected):
    return all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


class OneResult(Dataset):
    """Every item is the result of all operations and of a detector."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return operations() + detections()


def two_meet():
    """Whether a second thread works while the first one waits for it."""
    meeting = threading.Barrier(2, timeout=30)
    try:
        threads.share(lambda part: meeting.wait(), [(0, 1), (1, 2)])
    except threading.BrokenBarrierError:
        return False
    return True


def in_threads(expected):
    found = []
    callers = [
        threading.Thread(target=lambda: found.extend(operations() for _ in range(5)))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return len(found) == 20 and all(agree(parts, expected) for parts in found)


def in_a_fork(expected):
    child = os.fork()
    if child == 0:
        # torch makes its own pool again in a forked process, at its first use by a thread that is
        # new to it. Two such threads at once may find no pool at all ("Invalid thread pool").
        torch.set_num_threads(1)
        works = agree(operations(), expected) and in_threads(expected) and two_meet()
        os._exit(0 if works else 1)
    return os.waitpid(child, 0)[1] == 0


def in_processes(expected):
    """A process of ``multiprocessing`` ends as Python does, with the threads that it has."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(agree(operations(), expected)))
    process.start()
    process.join()
    return process.exitcode == 0 and answers.get()


def in_loaders(expected):
    loader = DataLoader(OneResult(), num_workers=2, multiprocessing_context="fork", batch_size=None)
    return all(agree(found, expected) for found in loader)


def main():
    expected = operations()
    whole = expected + detections()
    places = {"threads": in_threads, "fork": in_a_fork, "process": in_processes}
    for name, place in places.items():
        print(name, place(expected))
    print("loaders", in_loaders(whole))
    print("again", agree(operations(), expected) and two_meet())
    try:
        print("numba started its layer", numba.threading_layer())
    except ValueError:
        print("numba started no layer")


def late():
    """Work in a thread that outlives the main thread, when no pool may start a thread."""
    main_thread = threading.main_thread()

    def work():
        main_thread.join()
        print("late", agree(operations(), expected), flush=True)

    expected = operations()
    threading.Thread(target=work).start()


if __name__ == "__main__":
    share_everything()
    main()
    late()
