"""Cases in processes of their own, so that a hang, a crash and the memory of each case are seen.

A process runs one case after another. It is replaced when it hangs or dies. It needs Linux, which
keeps the peak memory of a process under ``/proc``.
"""

import dataclasses
import faulthandler
import importlib
import multiprocessing
import os
import shutil
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from tests.fuzz.cases import Cases, Outcome, Verdict

LONGEST_START = 300
"""Seconds in which a process must have read the undamaged files."""
LARGEST_SAVED = 1 << 20
"""Bytes up to which every offending file is saved. Of larger ones the first is, for each place."""
BETWEEN_LOOKS = 0.2
"""Seconds between two looks at the memory of a process that does not answer."""


@dataclass(frozen=True)
class Setting:
    """What all processes share."""

    catalogue: str
    """The module with the dict ``KINDS``, since processes cannot be sent functions."""
    kinds: tuple[str, ...]
    undamaged: Path
    seed: int = 0
    seconds: float = 20
    """Longest time of a case."""
    mib: int = 2048
    """Memory, in MiB, by which a process may grow in a case."""

    def all_kinds(self):
        known = importlib.import_module(self.catalogue).KINDS
        return {name: known[name] for name in self.kinds}


@dataclass
class Tally:
    """Counts of all cases so far, and the offences among them."""

    counts: defaultdict[str, Counter[Verdict]] = field(default_factory=lambda: defaultdict(Counter))
    peaks: Counter[str] = field(default_factory=Counter)
    """The largest growth of a process in MiB, by kind."""
    offences: list[Outcome] = field(default_factory=list)

    def add(self, outcome):
        self.counts[outcome.kind][outcome.verdict] += 1
        self.peaks[outcome.kind] = max(self.peaks[outcome.kind], outcome.peak)
        if outcome.is_offence:
            self.offences.append(outcome)

    def __len__(self):
        return sum(counts.total() for counts in self.counts.values())

    def places(self):
        """Return the offences by kind, verdict and place, the most frequent first."""
        places = defaultdict(list)
        for outcome in self.offences:
            places[outcome.kind, outcome.verdict, outcome.place].append(outcome)
        return sorted(places.items(), key=lambda item: (item[0][0], -len(item[1])))


class Worker:
    """A process that runs cases, seen from the process that started it."""

    def __init__(self, setting, folder):
        self.setting, self.folder = setting, folder
        self.log = folder / "log.txt"
        folder.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        self.start()

    def start(self):
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        self.process = spawn.Process(
            target=serve, args=(theirs, self.setting, self.folder), daemon=True
        )
        self.process.start()
        theirs.close()
        self.case = None
        self.is_ready = False
        self.until = time.monotonic() + LONGEST_START

    def send(self, case):
        self.case = case
        self.before = kilobytes("VmRSS", self.process.pid)
        # A process that hangs writes where it does so first.
        self.until = time.monotonic() + self.setting.seconds + min(self.setting.seconds, 1)
        self.connection.send(case)

    def receive(self):
        """Return the outcome of the case, or None if the process is ready for its first one."""
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return self.replace(Verdict.CRASH, f"exit status {self.process.exitcode}")
        if isinstance(answer, str):
            raise RuntimeError(f"an undamaged file is not read, or a damage fails:\n{answer}")
        self.is_ready = True
        return answer

    def overrun(self):
        """Return the verdict and its reason if the case takes too long or too much, else None."""
        if time.monotonic() > self.until:
            return Verdict.HANG, f"no end within {self.setting.seconds} s"
        if self.case is None or grown(self.before, "VmRSS", self.process.pid) <= self.setting.mib:
            return None
        return Verdict.MEMORY, f"more than {self.setting.mib} MiB"

    def replace(self, verdict, what):
        """Start another process in place of one that hangs or died; return how its case ended."""
        self.stop()
        report = f"{what}\n{self.log.read_text(errors='replace')}"
        if self.case is None:
            raise RuntimeError(f"a process did not begin: {report}")
        name, number = self.case
        files = self.setting.all_kinds()[name].files
        damaged = [file for file in files if not (self.folder / name / file).is_symlink()]
        self.start()
        return Outcome(name, number, damaged[0], "", verdict, report, what)

    def stop(self):
        self.process.kill()
        self.process.join()
        self.connection.close()


def fuzz(setting, cases, folder, *, workers=2, out=None, done=lambda tally: None):
    """Run cases in processes, and return their tally.

    ``cases`` yields the kind and the number of each. The processes write below ``folder``.
    Offending files are saved in ``out``. ``done`` is called with the tally after every case.
    """
    tally = Tally()
    crew = [Worker(setting, folder / f"worker {number}") for number in range(workers)]
    busy = list(crew)
    try:
        while busy:
            for worker, outcome in answers(busy):
                if outcome is not None:
                    tally.add(outcome)
                    if out is not None and outcome.is_offence:
                        save(outcome, setting.seed, worker.folder, out, tally)
                    done(tally)
                if not worker.is_ready:
                    continue
                if (case := next(cases, None)) is None:
                    busy.remove(worker)
                else:
                    worker.send(case)
    finally:
        for worker in crew:
            worker.stop()
    return tally


def answers(workers):
    """Wait until a process answers, dies, hangs or takes too much; return all such, with outcomes.

    The outcome of a process that has only begun is None.
    """
    found = []
    while not found:
        ready = wait([worker.connection for worker in workers], BETWEEN_LOOKS)
        for worker in workers:
            if worker.connection in ready:
                found.append((worker, worker.receive()))
            elif overrun := worker.overrun():
                found.append((worker, worker.replace(*overrun)))
    return found


def save(outcome, seed, work, out, tally):
    """Write the file of an offence, and a text that tells how to repeat it."""
    folder = out / outcome.kind
    folder.mkdir(parents=True, exist_ok=True)
    file = work / outcome.kind / outcome.file
    name = f"{outcome.number}_{outcome.file}"
    alike = [
        other
        for other in tally.offences
        if (other.kind, other.place) == (outcome.kind, outcome.place)
    ]
    if file.is_file() and (file.stat().st_size <= LARGEST_SAVED or len(alike) == 1):
        shutil.copyfile(file, folder / name)
    text = (
        f"{outcome.verdict}: {outcome.place}\n{outcome.damage}\n"
        f"python -m tests.fuzz --seed {seed} --case {outcome.kind} {outcome.number}\n\n"
        f"{outcome.report}\n"
    )
    (folder / f"{name}.txt").write_text(text, errors="backslashreplace")


def serve(connection, setting, folder):
    """Run cases in this process until the other one ends the connection."""
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    faulthandler.enable()
    cases = Cases(setting.all_kinds(), setting.undamaged, folder, setting.seed)
    try:
        cases.check_undamaged()
        connection.send(None)
        while True:
            case = connection.recv()
            os.ftruncate(log, 0)
            faulthandler.dump_traceback_later(setting.seconds)
            outcome = measured(cases, case, setting.mib)
            faulthandler.cancel_dump_traceback_later()
            connection.send(outcome)
    except EOFError:
        return
    # A fault of the harness itself, or of an undamaged file, is no outcome: it ends everything.
    except BaseException:
        connection.send(traceback.format_exc())


def measured(cases, case, mib):
    """Run a case, and add to its outcome by how much the process grew."""
    # "5" makes Linux set the peak (VmHWM) back to the present memory of the process (VmRSS).
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    outcome = cases.run(*case)
    peak = grown(before, "VmHWM")
    if peak > mib:
        what = {"verdict": Verdict.MEMORY, "place": f"more than {mib} MiB"}
        return dataclasses.replace(outcome, peak=peak, **what)
    return dataclasses.replace(outcome, peak=peak)


def grown(before, field, process="self"):
    """Return by how many MiB a process is above ``before``, which is in kilobytes."""
    return max(kilobytes(field, process) - before, 0) / 1024


def kilobytes(field, process="self"):
    """Return a field of the status of a process, in units of 1024 bytes. 0: it has died."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(found[0].split()[1]) if found else 0
