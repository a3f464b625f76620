"""Damage files for some minutes, read them, and say what came of it.

``python -m tests.fuzz --minutes 10 --seed 0`` tries files of all kinds. A case is decided by the
seed, its kind and its number, so ``--seed 0 --case results 17`` repeats it; ``--replay FILE KIND``
reads a file that ``--out`` has saved. The exit status is 1 if any case was an offence: anything
but a file that is read well, or one line that names the file.
"""

import argparse
import contextlib
import faulthandler
import io
import os
import sys
import tempfile
from itertools import islice, takewhile
from pathlib import Path

from tests.fuzz.cases import Cases, rounds
from tests.fuzz.harness import Setting, fuzz
from tests.fuzz.report import Progress, offences, table
from tests.fuzz.seeds import write_seeds
from tests.fuzz.targets import KINDS


def main():
    options = parsed_options()
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        folder = Path(name)
        with contextlib.redirect_stderr(io.StringIO()):
            write_seeds(folder / "undamaged")
        if options.case or options.replay:
            sys.exit(repeat(options, folder))
        sys.exit(run(options, folder))


def parsed_options():
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long to try")
    parser.add_argument("--cases", type=int, help="the number of cases, in place of the minutes")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other damages")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--out", type=Path, help="a folder to save the offending files in")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="number of processes")
    parser.add_argument("--seconds", type=float, default=20, help="the longest time of a case")
    parser.add_argument("--mib", type=int, default=2048, help="the most memory of a case")
    parser.add_argument("--case", nargs=2, metavar=("KIND", "NUMBER"), help="repeat one case")
    parser.add_argument("--replay", nargs=2, metavar=("FILE", "KIND"), help="read a saved file")
    return parser.parse_args()


def run(options, folder):
    """Try cases until the time is over; return the exit status."""
    # Each process that is started computes on one thread, so that they do not share cores.
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    setting = Setting(
        "tests.fuzz.targets",
        tuple(options.kinds),
        folder / "undamaged",
        options.seed,
        options.seconds,
        options.mib,
    )
    cases = rounds(setting.all_kinds())
    if options.cases is not None:
        cases = islice(cases, options.cases)
    progress = Progress(60 * options.minutes)
    tally = fuzz(
        setting,
        takewhile(lambda _: options.cases is not None or not progress.is_over(), cases),
        folder / "work",
        workers=options.workers,
        out=options.out,
        done=progress.show,
    )
    print(progress.line(tally))
    print(table(tally))
    print(offences(tally))
    return int(bool(tally.offences))


def repeat(options, folder):
    """Repeat one case in this process; return the exit status."""
    cases = Cases(KINDS, folder / "undamaged", folder / "work", options.seed)
    faulthandler.dump_traceback_later(options.seconds, exit=True)
    if options.case:
        outcome = cases.run(options.case[0], int(options.case[1]))
    else:
        path, kind = Path(options.replay[0]), options.replay[1]
        # The name of a saved file is that of the undamaged one behind the number of the case.
        names = [file for file in KINDS[kind].files if path.name.endswith(file)]
        file = max(names, key=len, default=KINDS[kind].files[0])
        outcome = cases.try_file(kind, file, path.read_bytes())
    print(f"{outcome.verdict}: {outcome.place}\n{outcome.damage}\n{outcome.report}")
    return int(outcome.is_offence)


if __name__ == "__main__":
    main()
