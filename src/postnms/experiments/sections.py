"""The sections of a page that hold figures, in Markdown."""

from collections.abc import Iterator

from postnms.detectors.output import ROW_TITLES
from postnms.experiments.comparison import Comparison
from postnms.experiments.config import BEST, BEST_ROW
from postnms.experiments.plan import Side
from postnms.experiments.summary import Difference, Summary
from postnms.experiments.tables import (
    cells,
    heads,
    in_words,
    interval,
    mean,
    number,
    one_line,
    spread,
    table,
)
from postnms.structures import NMS_ROW, POST_NMS_ROW, SECOND_NMS_ROW
from postnms.suppression.registry import SUPPRESSORS

MOST_CLASSES = 20
"""Largest number of classes whose figures are on the page."""


def results(summary: Summary) -> str:
    """Return the table of AP of each arm, for each seed, as a mean and with its interval."""
    seeds = summary.comparison.plan.experiment.config.seeds
    rows = [
        [
            f"`{result.side.arm}`",
            _row(result.asked, result.side),
            *cells(seeds, result.seeds, result.estimate, ".1f"),
        ]
        for result in summary.results
    ]
    return table(["AP of the arm", "row", *heads(seeds)], rows)


def differences(summary: Summary) -> str:
    """Return the table of the differences of AP."""
    seeds = summary.comparison.plan.experiment.config.seeds
    rows = []
    for difference in summary.differences:
        sides = [
            f"`{side.arm}`, {_row(asked, side)}"
            for asked, side in zip(difference.asked, difference.sides, strict=True)
        ]
        rows.append([*sides, *cells(seeds, difference.seeds, difference.estimate, "+.2f")])
    return table(["AP of", "minus AP of", *heads(seeds)], rows)


def in_short(summary: Summary) -> list[str]:
    """Return the sentence on what the first difference asks, if there are differences.

    If that compares two arms, the sentence has all differences between its first side and another
    one. If it compares two rows of one arm, the sentence has the same difference of every arm.
    """
    known = [part for part in summary.differences if part.estimate is not None]
    if not known:
        return []
    first, second = summary.differences[0].asked
    if first.arm == second.arm:
        rows = (first.row, second.row)
        alike = [part for part in known if tuple(side.row for side in part.asked) == rows]
        arms = [(f"`{part.asked[0].arm}`", part) for part in alike if _is_within_an_arm(part)]
        what = f"AP of {_row(first, first)} minus that of {_row(second, second)} of the same arm: "
    else:
        arms = [(_name(part, 1), part) for part in known if part.asked[0] == first]
        what = f"AP of {_name(summary.differences[0], 0)} minus that of "
    said = [f"{name} {_estimate(part)}" for name, part in arms]
    return [f"{what}{in_words(said)}."] if said else []


def _is_within_an_arm(difference: Difference) -> bool:
    return difference.asked[0].arm == difference.asked[1].arm


def _name(difference: Difference, place: int) -> str:
    """Return how the page calls the first or the second side of a difference."""
    asked, side = difference.asked[place], difference.sides[place]
    return f"`{side.arm}` ({_row(asked, side)})"


def _estimate(difference: Difference) -> str:
    """Return the mean of a difference and its interval."""
    assert difference.estimate is not None
    mean_of_all = number(difference.estimate.mean, "+.2f")
    return f"{mean_of_all} ({interval(difference.estimate, '+.2f')})"


def _row(asked: Side, side: Side) -> str:
    """Return how the page calls a row."""
    named = _title(side.row)
    if asked.row == BEST:
        return f"{named}, the best suppressor" if side.row != BEST else "the best suppressor"
    return f"{named}, the best row" if asked.row == BEST_ROW else named


def about_intervals(summary: Summary) -> str:
    """Return the paragraph that says what the intervals are."""
    comparison = summary.comparison
    config = comparison.plan.experiment.config
    parts = (*summary.results, *summary.differences)
    counts = sorted({len(part.seeds) for part in parts if part.estimate is not None})
    own = len({comparison.image_set(finished.run) for finished in comparison.runs}) > 1
    images = "the val images of each seed" if own else "the val images"
    text = (
        f"The intervals come from a bootstrap with {config.bootstrap:,} resamples. In each of them "
        f"{images} are drawn with replacement, the same ones for both sides of a difference"
    )
    if max(counts, default=1) == 1:
        return (
            f"{text}. There is one seed, so the interval covers the images alone: what another "
            "seed changes is not in it."
        )
    shared = "" if own else " and for all seeds"
    if len(counts) > 1:  # Some runs are not finished.
        known = f"the {counts[0]} to {counts[-1]} of its row"
    else:
        known = f"the {counts[-1]} that were run"
    return (
        f"{text}{shared}. The seeds are drawn with replacement as well, the same ones for both "
        "sides. The figure is the mean over the drawn seeds, and the interval goes from its "
        f"percentile 2.5 to its percentile 97.5. It knows no seeds but {known}. "
        "With so few it is rather too narrow."
    )


def about_choices(summary: Summary) -> list[str]:
    """Return the paragraph that says how the best suppressor or row is chosen, if there is one."""
    sides = [result.asked for result in summary.results]
    sides += [side for difference in summary.differences for side in difference.asked]
    rows = {side.row for side in sides}
    comparison = summary.comparison
    said = []
    if BEST in rows:
        methods = len(comparison.plan.methods)
        arms = [arm for arm in comparison.plan.counted if comparison.best(arm) is not None]
        chosen = in_words([f"`{comparison.best(arm)}` on `{arm}`" for arm in arms] or ["none"])
        said.append(
            f"The best suppressor, {chosen}, has the best mean AP over the seeds of the {methods} "
            "suppressors that were tried on the candidates of the same runs. It is the same one "
            "for all seeds. None of them is trained."
        )
    if BEST_ROW in rows:
        said.append("The best row of an arm has the best mean AP over the seeds of all its rows.")
    if said:
        said.append(
            "What is best is chosen on the val images on which it is compared, which is in its "
            "favour."
        )
    return [" ".join(said)] if said else []


def figures(comparison: Comparison) -> str:
    """Return the table of all figures of each row of the runs."""
    config = comparison.plan.experiment.config
    rows = []
    for side in [*_sides(comparison), *_further_sides(comparison)]:
        runs = comparison.of_side(side)
        measured = [comparison.figures(run, side.row) for run in runs]
        known = [spread([part[figure] for part in measured]) if runs else "-"
                 for figure in config.columns]  # fmt: skip
        some = f" ({len(runs)} of {len(config.seeds)} seeds)"
        which = "" if len(runs) == len(config.seeds) else some
        rows.append([f"`{side.arm}`{which}", _title(side.row), *known])
    note = "NMS: the boxes that the detector's own greedy NMS keeps."
    of_stage = {s.row for s in _sides(comparison) if s.row.startswith(POST_NMS_ROW)}
    if of_stage:
        note += " Post-NMS: the same boxes, scored and placed anew by the stage."
    if of_stage - {POST_NMS_ROW, SECOND_NMS_ROW}:
        note += (
            " Post-NMS with the name of a suppressor: what it makes of the candidates that the "
            "stage has scored and placed anew."
        )
    if len(config.seeds) > 1:
        note += (
            " A cell has the mean over the seeds, their standard deviation, "
            "and in brackets the smallest and the largest value."
        )
    return f"{table(['arm', 'row', *config.columns], rows)}\n\n{note}"


def _sides(comparison: Comparison) -> Iterator[Side]:
    """Yield every row of the runs of every arm, in the order of the file."""
    for arm in comparison.plan.counted:
        for row in comparison.plan.rows(arm):
            yield Side(arm, row)


def _further_sides(comparison: Comparison) -> Iterator[Side]:
    """Yield the rows that come from the candidates of one arm alone, in the order of the file."""
    plan = comparison.plan
    for arm in plan.counted:
        for row in plan.further_rows(arm):
            if not (plan.replays(arm) and row in plan.methods):
                yield Side(arm, row)


def _title(row: str) -> str:
    """Return how the page calls a row of a run, or one of its candidates."""
    if row in SUPPRESSORS and row != NMS_ROW:
        return f"`{row}`"
    return ROW_TITLES.get(row, f"`{row}`")


ABOUT_SUPPRESSORS = (
    "Every suppressor takes the same candidates, the boxes before suppression, and needs no "
    "training. The settings are those of `postnms suppressors` unless the name has others. "
    "Milliseconds are those of the suppressor alone for one image."
)
"""The paragraph below the tables of :func:`suppressors`."""


def suppressors(comparison: Comparison, arm: str) -> str:
    """Return the table of the suppressors on the candidates of the runs of an arm."""
    plan = comparison.plan
    columns = plan.experiment.config.columns
    runs = [run for run in comparison.of_arm(arm) if run.suppressors]

    def line(name: str, row: str, milliseconds: str) -> list[str]:
        known = [run.figures(row) for run in runs]
        return [name, *(spread([part[figure] for part in known]) for figure in columns),
                milliseconds]  # fmt: skip

    own = [line(f"the run, {ROW_TITLES[row]}", row, "") for row in plan.rows(arm)]
    averages = {
        method: sum(run.figures(method)["AP"] or 0.0 for run in runs) for method in plan.methods
    }
    others = [
        line(f"`{method}`", method,
             mean([run.suppressors[method]["milliseconds"] for run in runs], 2))
        for method in sorted(plan.methods, key=lambda method: -averages[method])
    ]  # fmt: skip
    return table(["suppressor", *columns, "ms"], [*own, *others])


def classes(comparison: Comparison) -> str:
    """Return the table of AP by class. Empty: there is one class, or there are very many."""
    sides = [side for side in _sides(comparison) if comparison.of_side(side)]
    of_side = [
        [list(run.evaluation.classes.get(side.row, ())) for run in comparison.of_side(side)]
        for side in sides
    ]
    names = [of_class.name for of_class in of_side[0][0]]
    is_whole = all(len(part) == len(names) for of_runs in of_side for part in of_runs)
    if not is_whole or not 1 < len(names) <= MOST_CLASSES:
        return ""
    rows = [
        [one_line(name), *(mean([part[k].AP for part in of_runs]) for of_runs in of_side)]
        for k, name in enumerate(names)
    ]
    heads_of_sides = [f"`{side.arm}`, {ROW_TITLES[side.row]}" for side in sides]
    several = len(comparison.plan.experiment.config.seeds) > 1
    note = "AP of each class" + (", mean over the seeds." if several else ".")
    return f"{table(['class', *heads_of_sides], rows)}\n\n{note}"
