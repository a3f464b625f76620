"""Train a run to its end, and then a second one until it is killed, for ``test_resume``.

``python -m tests.support.killed WHOLE KILLED CHANGE...``, alone or by a launcher in several
processes. The second run waits before step ``LAST + 1``.
"""

import sys
import time
from pathlib import Path

from postnms.runs.folder import RunFolder
from postnms.training import loop as training
from tests.support.runs import splits_of, tiny

LAST = 6
"""Steps that the second run finishes."""


def wait_for_the_kill():
    step, calls = training.training_step, []

    def waiting(*args):
        calls.append(1)
        if len(calls) > LAST:
            time.sleep(600)
        return step(*args)

    training.training_step = waiting


if __name__ == "__main__":
    whole, killed, *changes = sys.argv[1:]
    recipe = tiny(*changes)
    training.train_splits(recipe, splits_of(recipe), RunFolder(Path(whole)))
    wait_for_the_kill()
    training.train_splits(recipe, splits_of(recipe), RunFolder(Path(killed)))
