"""The page of an experiment in Markdown, for readers who know neither the library nor the runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postnms.experiments import placement, sections
from postnms.experiments.comparison import Comparison
from postnms.experiments.placement import Placement
from postnms.experiments.plan import describe_arm
from postnms.experiments.records import without_places
from postnms.experiments.summary import Summary
from postnms.experiments.tables import in_words, mean, one_line, table

MADE_BY = "<!-- Made by postnms experiment. Change the file of the experiment, not this page. -->"
"""The first line of a page of an experiment."""


@dataclass(frozen=True)
class Page:
    """What a page is made of."""

    comparison: Comparison
    summary: Summary
    records: Sequence[Mapping[str, Any]]
    """The record of each finished run, in their order."""
    folder: str
    """Folder of the records, as the links of the page name it: a blank is ``%20``."""
    command: str
    """The command that made the page."""
    placements: Sequence[Placement] = ()
    """The placement of clusters of the arms that ask for it."""
    made_by: str = MADE_BY
    """The first line, by which the page is told from other files."""
    in_short: Sequence[str] | None = None
    """Paragraphs below the title. None: those on the first differences."""
    first: Sequence[str] = ()
    """Paragraphs in front of the first section."""


def markdown(page: Page) -> str:
    """Return the text of a page."""
    comparison, summary = page.comparison, page.summary
    config = comparison.plan.experiment.config
    parts = [f"{page.made_by}\n# {one_line(config.title)}"]
    parts += sections.in_short(summary) if page.in_short is None else page.in_short
    parts += [config.text.strip()] if config.text.strip() else []
    parts += [_about(page), *_missing(comparison), *_warnings(page.records)]
    parts += page.first
    parts += ["## Arms", _arms(page), "## Results", sections.results(summary)]
    if summary.differences:
        parts += ["## Differences", sections.differences(summary)]
    parts += [sections.about_intervals(summary), *sections.about_choices(summary)]
    parts += ["## All figures", sections.figures(comparison)]
    for part in page.placements:
        parts += [f"## Placement of the clusters of `{part.arm}`"]
        parts += [placement.section(part, page.folder)]
    replayed = [arm for arm in comparison.plan.counted if comparison.best(arm) is not None]
    for arm in replayed:
        parts += [f"## Suppressors on the candidates of `{arm}`"]
        parts += [sections.suppressors(comparison, arm)]
    parts += [sections.ABOUT_SUPPRESSORS] if replayed else []
    if classes := sections.classes(comparison):
        parts += ["## Classes", classes]
    parts += ["## Records", _records(page)]
    return "\n\n".join(parts) + "\n"


def _about(page: Page) -> str:
    """Return the paragraph that says what was trained on what."""
    comparison = page.comparison
    plan, config = comparison.plan, comparison.plan.experiment.config
    runs = [finished.run for finished in comparison.runs]
    val_sets = [comparison.val_set(run) for run in runs]
    sizes = sorted({val_set.images for val_set in val_sets})
    images = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    counts = sorted({val_set.objects for val_set in val_sets})
    objects = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    classes = val_sets[0].classes
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
    if len({val_set.digest for val_set in val_sets}) > 1:
        lines.append("Each seed has images of its own.")
    return " ".join(lines)


def _missing(comparison: Comparison) -> list[str]:
    """Return the paragraph that names the runs that are not finished, if there are any."""
    if not comparison.missing:
        return []
    named = in_words([f"`{name}`" for name in comparison.missing])
    return [
        f"**Not finished: {named}.** The figures are over the runs that are finished, and those of "
        "a difference over the seeds for which both sides are finished."
    ]


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
                     mean(minutes) if minutes else "-"])  # fmt: skip
    note = "The time is that of the training steps alone, without evaluations, as a mean over runs."
    heads = ["arm", "what differs from the recipe above", "minutes"]
    return f"{table(heads, rows)}\n\n{note}"


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
        + (f", trained in {part['precision']}" if "precision" in part else "")
        for record in page.records
        for part in _parts(record)
    )
    note = (
        f"Machine and versions: {' and '.join(places)}. A record has all figures, the whole recipe "
        f"and the time of its run. This page was made by `{page.command}`."
    )
    return f"{table(['record', 'command', 'commit', 'minutes'], rows)}\n\n{note}"
