"""The page of an experiment in Markdown, for readers who know neither the library nor the runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postnms.detectors.output import ROW_TITLES
from postnms.experiments.differences import Difference
from postnms.experiments.finished import Comparison
from postnms.experiments.plan import Side, describe_arm, rows_of
from postnms.experiments.records import without_places
from postnms.experiments.tables import gains, in_words, mean, one_line, spread, table

MADE_BY = "<!-- Made by postnms experiment. Change the file of the experiment, not this page. -->"
"""The first line of every page, by which a page is told from other files."""
MOST_CLASSES = 20
"""Largest number of classes whose figures are on the page."""


@dataclass(frozen=True)
class Page:
    """What a page is made of."""

    comparison: Comparison
    differences: Sequence[Difference]
    records: Sequence[Mapping[str, Any]]
    """The record of each run, in the order of the runs."""
    folder: str
    """Folder of the records, as the links of the page name it."""
    command: str
    """The command that made the page."""


def markdown(page: Page) -> str:
    """Return the text of a page."""
    config = page.comparison.plan.experiment.config
    parts = [f"{MADE_BY}\n# {one_line(config.title)}"]
    parts += [config.text.strip()] if config.text.strip() else []
    parts += [_about(page), *_warnings(page.records)]
    parts += ["## Arms", _arms(page), "## Figures", _figures(page)]
    if page.differences:
        parts += ["## Differences", _differences(page), _about_intervals(page)]
    if config.heuristics is not None:
        parts += [f"## Suppressors on the candidates of `{config.heuristics.arm}`"]
        parts += [_suppressors(page)]
    if classes := _classes(page):
        parts += ["## Classes", classes]
    parts += ["## Records", _records(page)]
    return "\n\n".join(parts) + "\n"


def _about(page: Page) -> str:
    """Return the paragraph that says what was trained on what."""
    comparison = page.comparison
    plan, config = comparison.plan, comparison.plan.experiment.config
    truths = {comparison.image_set(run): comparison.truth(run) for run in plan.runs}
    sizes = sorted({len(truth.images) for truth in truths.values()})
    images = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    counts = sorted({int((~truth.objects.crowd).sum()) for truth in truths.values()})
    objects = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    classes = len(next(iter(truths.values())).categories)
    data = "the built-in scenes" if plan.data is None else f"`{page.records[0]['data']}`"
    changes = f" with {in_words([f'`{text}`' for text in config.set])}" if config.set else ""
    recipe = without_places(config.recipe, plan.folder)
    seeds = in_words(list(map(str, config.seeds)))
    several = len(config.seeds) > 1
    lines = [
        f"Recipe `{recipe}`{changes}, trained on {data} once for each arm and each of the seeds "
        f"{seeds}." if several else
        f"Recipe `{recipe}`{changes}, trained on {data} once for each arm with the seed {seeds}.",
        f"All figures are COCO's, in per cent, on the val split: {images} images with {objects} "
        f"objects of {classes} classes.",
    ]  # fmt: skip
    if len(truths) > 1:
        lines.append("Each seed has images of its own.")
    return " ".join(lines)


def _warnings(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return paragraphs on what a reader has to know before the figures."""
    commits = sorted({str(part["commit"]) for record in records for part in _parts(record)})
    said = []
    if len(commits) > 1:
        named = in_words([f"`{commit}`" for commit in commits])
        said.append(
            f"**The runs come from different commits of the library, {named}.** What changed "
            "between them may be a part of the differences."
        )
    if any(commit == "None" or commit.endswith("-dirty") for commit in commits):
        said.append(
            "**Not every run comes from a commit:** the library had changes that no commit has, or "
            "lay outside of a checkout."
        )
    return said


def _parts(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the facts of the origin of a record, and those of its resumptions."""
    return [record, *record.get("resumed", [])]


def _arms(page: Page) -> str:
    comparison = page.comparison
    rows = []
    for name, arm in comparison.plan.experiment.config.arms.items():
        seconds = [r["seconds"] for r in page.records if r["arm"] == name]
        minutes = [None if value is None else value / 60 for value in seconds]
        rows.append([f"`{name}`", without_places(describe_arm(arm), comparison.plan.folder),
                     mean(minutes)])  # fmt: skip
    note = "The time is that of the training steps alone, without evaluations, as a mean over runs."
    heads = ["arm", "what differs from the recipe above", "minutes"]
    return f"{table(heads, rows)}\n\n{note}"


def _figures(page: Page) -> str:
    comparison = page.comparison
    config = comparison.plan.experiment.config
    rows = []
    for side in _sides(page):
        runs = comparison.of_arm(side.arm)
        cells = [spread([run.figures(side.row)[figure] for run in runs])
                 for figure in config.columns]  # fmt: skip
        rows.append([f"`{side.arm}`", ROW_TITLES[side.row], *cells])
    note = (
        "NMS: the boxes that the detector's own greedy NMS keeps. Post-NMS: the same boxes, scored "
        "and placed anew by the stage."
    )
    if len(config.seeds) > 1:
        note += (
            f" A cell has the mean over the {len(config.seeds)} seeds, their standard deviation, "
            "and in brackets the smallest and the largest value."
        )
    return f"{table(['arm', 'row', *config.columns], rows)}\n\n{note}"


def _sides(page: Page) -> Iterator[Side]:
    """Yield every row of every arm, in the order of the file."""
    plan = page.comparison.plan
    for arm in plan.experiment.config.arms:
        for row in rows_of(plan.of_arm(arm)[0].recipe):
            yield Side(arm, row)


def _differences(page: Page) -> str:
    plan = page.comparison.plan
    seeds = plan.experiment.config.seeds
    rows = [
        [_side(page, left), _side(page, right), *gains(difference)]
        for (left, right), difference in zip(plan.differences, page.differences, strict=True)
    ]
    heads = [f"seed {seed}" for seed in seeds]
    heads += ["mean"] if len(seeds) > 1 else []
    return table(["AP of", "minus AP of", *heads, "95 % interval"], rows)


def _side(page: Page, side: Side) -> str:
    """Return how the page calls a side of a difference."""
    named = page.comparison.named(side)
    row = ROW_TITLES.get(named.row, f"`{named.row}`")
    best = ", the best suppressor" if named != side else ""
    return f"`{side.arm}`, {row}{best}"


def _about_intervals(page: Page) -> str:
    """Return the paragraph that says what the intervals are."""
    config = page.comparison.plan.experiment.config
    seeds = len(config.seeds)
    own = len({page.comparison.image_set(run) for run in page.comparison.plan.runs}) > 1
    images = "the val images" if not own else "the val images of each seed"
    text = (
        f"The intervals come from a paired bootstrap with {config.bootstrap:,} resamples. In each "
        f"of them {images} are drawn with replacement, the same ones for both sides"
    )
    if seeds == 1:
        text += (
            ". There is one seed, so the interval covers the images alone: what another seed "
            "changes is not in it."
        )
    else:
        text += (
            " and all seeds, and so are the seeds, the same ones for both sides. The difference is "
            "the mean over the drawn seeds, and the interval goes from its percentile 2.5 to its "
            f"percentile 97.5. It knows no seeds but the {seeds} that were run. With so few it is "
            "rather too narrow."
        )
    best = page.comparison.best
    if any(side != page.comparison.named(side) for pair in page.comparison.plan.differences
           for side in pair):  # fmt: skip
        text += (
            f"\n\nThe best suppressor, `{best}`, is the one with the best mean AP of all those "
            "below. It is chosen on the val images on which it is compared, which is in its favour."
        )
    return text


def _suppressors(page: Page) -> str:
    comparison = page.comparison
    plan, config = comparison.plan, comparison.plan.experiment.config
    assert config.heuristics is not None
    runs = comparison.of_arm(config.heuristics.arm)

    def line(name: str, row: str, milliseconds: str) -> list[str]:
        figures = [run.figures(row) for run in runs]
        return [name, *(spread([part[figure] for part in figures]) for figure in config.columns),
                milliseconds]  # fmt: skip

    own = [line(f"the run, {ROW_TITLES[row]}", row, "") for row in rows_of(runs[0].run.recipe)]
    averages = {
        method: sum(run.figures(method)["AP"] or 0.0 for run in runs) for method in plan.methods
    }
    others = [
        line(f"`{method}`", method,
             mean([run.suppressors[method]["milliseconds"] for run in runs], 2))
        for method in sorted(plan.methods, key=lambda method: -averages[method])
    ]  # fmt: skip
    note = (
        "Every suppressor takes the same candidates, the boxes before suppression, and needs no "
        "training. The settings are those of `postnms suppressors` unless the name has others. "
        "Milliseconds are those of the suppressor alone for one image."
    )
    heads = ["suppressor", *config.columns, "ms"]
    return f"{table(heads, [*own, *others])}\n\n{note}"


def _classes(page: Page) -> str:
    """Return the table of AP by class. Empty: there is one class, or there are very many."""
    comparison = page.comparison
    sides = list(_sides(page))
    of_side = [
        [list(run.evaluation.classes.get(side.row, ())) for run in comparison.of_arm(side.arm)]
        for side in sides
    ]
    names = [figures.name for figures in of_side[0][0]]
    is_whole = all(len(classes) == len(names) for of_runs in of_side for classes in of_runs)
    if not is_whole or not 1 < len(names) <= MOST_CLASSES:
        return ""
    rows = [
        [one_line(name), *(mean([classes[k].AP for classes in of_runs]) for of_runs in of_side)]
        for k, name in enumerate(names)
    ]
    heads = [f"`{side.arm}`, {ROW_TITLES[side.row]}" for side in sides]
    note = "AP of each class" + (", mean over the seeds." if len(of_side[0]) > 1 else ".")
    return f"{table(['class', *heads], rows)}\n\n{note}"


def _records(page: Page) -> str:
    rows = []
    for finished, record in zip(page.comparison.runs, page.records, strict=True):
        name = finished.run.name
        seconds = record["seconds"]
        rows.append(
            [
                f"[{name}]({page.folder}/{name}.json)",
                "; then ".join(f"`{part['command'] or 'Python'}`" for part in _parts(record)),
                ", ".join(dict.fromkeys(f"`{part['commit']}`" for part in _parts(record))),
                mean([None if seconds is None else seconds / 60]),
            ]
        )
    places = dict.fromkeys(
        f"{part['machine']}; postnms {part['version']}, torch {part['torch']}"
        for record in page.records
        for part in _parts(record)
    )
    note = (
        f"Machine and versions: {' and '.join(places)}. A record has all figures, the whole recipe "
        f"and the time of its run. This page was made by `{page.command}`."
    )
    return f"{table(['record', 'command', 'commit', 'minutes'], rows)}\n\n{note}"
