"""``postnms check``: look at a data set before it is trained on."""

import dataclasses
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from postnms.cli.console import print_wide, progress_bar, say, visible
from postnms.cli.options import DataChanges
from postnms.cli.outputs import check_replaces
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.data.config import DataConfig
    from postnms.data.dataset import Dataset
    from postnms.data.summary import SplitSummary


def check(
    folder: Annotated[Path, typer.Argument(help="Data folder or data.yaml.")],
    changes: DataChanges = None,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="File to write the same facts to.")
    ] = None,
) -> None:
    """Look at a data set: what it holds, what looks like a mistake, and what cannot be trained on.

    The exit status is 0 if train and val are there, fit together, and every image file is as
    annotated.
    """
    from postnms.data.config import DataConfig
    from postnms.data.splits import find_data
    from postnms.data.summary import shared_images, summarise
    from postnms.files.atomic import write_json
    from postnms.recipes import parse_changes

    if json_to is not None:
        check_replaces(json_to, _read_facts, "file of 'postnms check --json'", "json_to")
    given = {path.removeprefix("data."): v for path, v in parse_changes(changes or []).items()}
    config = DataConfig.parse(given, "data")
    found = find_data(config, folder)
    datasets: dict[str, Dataset] = {}
    missing = {}
    for split in dict.fromkeys(("train", "val", *found.splits)):
        try:
            datasets[split] = found.read(split)
        except UserError as error:
            missing[split] = str(error)
    summaries: dict[str, SplitSummary] = {}
    for split, dataset in datasets.items():
        with progress_bar(split, len(dataset.records), patience=2) as done:
            summaries[split] = summarise(dataset, config.max_pixels, done)
    shared = {
        pair: names
        for pair in combinations(datasets, 2)
        if (names := shared_images(*(datasets[split] for split in pair)))
    }
    if datasets:
        say(found.describe())
    _print(summaries, shared)
    if json_to is not None:
        described = {name: dataclasses.asdict(facts) for name, facts in summaries.items()}
        both = {" and ".join(pair): names for pair, names in shared.items()}
        write_json(json_to, {**described, "missing": missing, "in_both_splits": both})
    wrong = [f"{split}: {text}" for split, text in missing.items()]
    wrong += _misfits(datasets, config)
    wrong += [f"{n}: {problem}" for n, facts in summaries.items() for problem in facts.problems]
    if wrong:
        raise UserError("; ".join(wrong))
    say("training can start")


def _misfits(datasets: "Mapping[str, Dataset]", config: "DataConfig") -> list[str]:
    """Return why a training cannot start with train and val, if both were read."""
    from postnms.data.splits import check_splits

    try:
        if {"train", "val"} <= datasets.keys():
            check_splits(datasets["train"], datasets["val"], config)
    except UserError as error:
        return [str(error)]
    return []


def _read_facts(file: Path) -> None:
    """Raise UserError unless an earlier call has written the file."""
    from postnms.files.json_files import read_json

    content = read_json(file)
    if not isinstance(content, dict) or not {"missing", "in_both_splits"} <= content.keys():
        raise UserError(f"{file}: expected the facts of a data set, got another form")


def _print(summaries: "dict[str, SplitSummary]", shared: dict[tuple[str, str], list[str]]) -> None:
    """Print the numbers of all splits side by side, and then what looks like a mistake."""
    facts = list(summaries.values())
    if not facts:
        return
    table = Table(Column(""), *(Column(name, justify="right") for name in summaries), box=None)
    rows = {
        "annotations": [Path(fact.source).name for fact in facts],
        "images": [fact.images for fact in facts],
        "  without objects": [fact.empty_images for fact in facts],
        "  height x width, smallest": [_size(fact.sides[0]) for fact in facts],
        "  median": [_size(fact.sides[1]) for fact in facts],
        "  largest": [_size(fact.sides[2]) for fact in facts],
        "boxes": [fact.objects for fact in facts],
        "  crowd regions": [fact.crowd for fact in facts],
        "  too small to train on": [fact.dropped for fact in facts],
        "  over the border of the image": [fact.outside for fact in facts],
        **{f"  {name}": [fact.sizes[name] for fact in facts] for name in facts[0].sizes},
    }
    names = {name: None for fact in facts for name in fact.objects_of}
    rows |= {f"class {n}": [fact.objects_of.get(n, "-") for fact in facts] for n in names}
    for title, values in rows.items():
        table.add_row(visible(title), *(visible(str(value)) for value in values))
    print_wide(table)
    for split, fact in summaries.items():
        for line in _doubts(fact):
            say(f"note: {split}: {line}")
    for pair, names in shared.items():
        say(f"note: {len(names)} images are in {' and '.join(pair)}: {', '.join(names[:3])}")


def _doubts(fact: "SplitSummary") -> list[str]:
    """Return what looks like a mistake and does not keep a run from starting."""
    lines = []
    if fact.same_files:
        lines.append(f"{fact.same_files} images have the file of another image")
    if fact.same_boxes:
        lines.append(f"{fact.same_boxes} boxes equal another box of their class and image")
    if fact.same_names:
        lines.append(f"{fact.same_names} classes have the name of another class")
    if fact.empty_classes:
        lines.append(f"no box of the classes {', '.join(fact.empty_classes)}")
    return lines


def _size(sides: tuple[int, int]) -> str:
    return f"{sides[0]} x {sides[1]}"
