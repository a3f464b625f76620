"""Processes that read images ahead, for training, evaluation, dumps and predictions.

What they give, and its order, does not depend on their number.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from postnms.errors import UserError

IMAGES_A_WORKER = 32
"""Fewest images for which one more process is worth its start, which takes about 0.1 s."""

Item = TypeVar("Item")
Value = TypeVar("Value")


def worth_starting(workers: int, images: int) -> int:
    """Return how many of the workers are worth their start for a number of images.

    Example:
        >>> worth_starting(4, 10), worth_starting(4, 70), worth_starting(4, 1000)
        (0, 2, 4)
    """
    return min(workers, images // IMAGES_A_WORKER)


def load_ahead(
    load: Callable[[Item], Value],
    items: Sequence[Item],
    workers: int,
    *,
    pin_memory: bool = False,
) -> Iterator[Value]:
    """Yield ``load(item)`` of each item in order, read ahead by some worker processes.

    Args:
        load: what is done for an item. In a worker its result goes back through shared memory.
        items: its arguments.
        workers: number of processes. 0: this process does it when a value is asked for.
        pin_memory: copy the values into page-locked memory, for a GPU.

    Raises:
        UserError: as ``load`` does.
    """
    if workers == 0 and not pin_memory:
        yield from map(load, items)
        return
    options = {"batch_size": None, "collate_fn": _as_it_is}
    loader = new_loader(_Loads(load, items), workers, pin_memory=pin_memory, **options)
    with plain_errors():
        yield from loader


def new_loader(
    data: Dataset[Any], workers: int, *, pin_memory: bool, **options: Any
) -> DataLoader[Any]:
    """Return torch's loader with some worker processes, which leave Ctrl-C to this process.

    It draws nothing from torch's default generator, from which samplers draw.
    """
    return DataLoader(
        data,
        num_workers=workers,
        worker_init_fn=_leave_interrupts,
        pin_memory=pin_memory,
        generator=torch.Generator(),
        **options,
    )


@contextmanager
def plain_errors() -> Iterator[None]:
    """Give a UserError of a worker in a ``with`` block the message that it had there."""
    try:
        yield
    except UserError as error:
        # A worker of the loader puts its traceback before the message and a line break behind it.
        message = str(error).rpartition("UserError: ")[2]
        raise UserError(message.removesuffix(r"\n")) from error


class _Loads(Dataset[Any]):
    """The values of some items, as a data set of torch."""

    def __init__(self, load: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self._load = load
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._load(self._items[index])


def _as_it_is(value: Value) -> Value:
    """Return a value itself, where torch would change the types of its parts."""
    return value


def _leave_interrupts(_: int) -> None:
    """Let a worker of the loader ignore Ctrl-C, which the terminal sends to all processes.

    The main process still needs the worker for what it finishes before it stops.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
