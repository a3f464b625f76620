"""What a run of the harness says: a line of progress, a table of the kinds, and the offences."""

import time

from tests.fuzz.cases import FINE, Verdict

BETWEEN = 10
"""Seconds between two lines of progress."""
NARROW = 10
"""Width of a column of the table."""


class Progress:
    """The time since the first case, and a line on what was done every few seconds."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.begin = self.shown = None

    def is_over(self):
        return self.begin is not None and time.monotonic() - self.begin > self.seconds

    def show(self, tally):
        """Print a line if the last one was some time ago."""
        if self.begin is None:
            self.begin = self.shown = time.monotonic()
        if time.monotonic() - self.shown > BETWEEN:
            self.shown = time.monotonic()
            print(self.line(tally), flush=True)

    def line(self, tally):
        spent = time.monotonic() - self.begin
        totals = {
            verdict: sum(counts[verdict] for counts in tally.counts.values())
            for verdict in Verdict
            if verdict not in FINE
        }
        parts = [f"{len(tally):,} cases", f"{len(tally) / spent:.0f} a second"]
        parts += [f"{count:,} {verdict}" for verdict, count in totals.items() if count]
        return f"{spent / 60:.1f} of {self.seconds / 60:g} min: {', '.join(parts)}"


def table(tally):
    """Return the counts of all verdicts, with a line for each kind."""
    head = ["kind", "cases", *map(str, Verdict), "peak MiB"]
    lines = []
    for name, counts in sorted(tally.counts.items()):
        numbers = [counts.total(), *(counts[verdict] for verdict in Verdict)]
        lines.append([name, *map(str, numbers), f"{tally.peaks[name]:.0f}"])
    totals = [sum(int(line[column]) for line in lines) for column in range(1, len(head) - 1)]
    lines.append(["all", *map(str, totals), f"{max(tally.peaks.values(), default=0):.0f}"])
    width = max(len(line[0]) for line in lines)
    return "\n".join(
        line[0].ljust(width) + "".join(cell.rjust(NARROW) for cell in line[1:])
        for line in [head, *lines]
    )


def offences(tally):
    """Return a line for each place and kind of offence, with the number of its first case."""
    return "\n".join(
        f"{kind}: {verdict} x {len(outcomes)}, first case {outcomes[0].number}: {place}"
        for (kind, verdict, place), outcomes in tally.places()
    )
