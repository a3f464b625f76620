"""What the verbs on candidates do: dump and import them, compare suppressors, analyse errors."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

from postnms.analysis.comparison import SHOWN, ComparedRow, compare, count_rows, usable
from postnms.analysis.diagnosis import Analysis, analyse
from postnms.analysis.reports import _PLACEMENT, _analysis_json, _comparison_csv
from postnms.analysis.sweeps import sweep
from postnms.candidate_files.coco_import import import_results
from postnms.candidate_files.reader import CandidateFile, open_candidates
from postnms.candidate_files.truth import open_truth
from postnms.candidate_files.writer import CandidateWriter
from postnms.cli.train import progress_bar
from postnms.data.dataset import Truth
from postnms.data.formats.coco import open_annotations
from postnms.errors import UserError
from postnms.evaluation.metrics import show
from postnms.evaluation.tide import ERROR_TYPES
from postnms.files.atomic import hash_of, write_json, write_text
from postnms.recipes import override
from postnms.runs.folder import RunFolder, read_categories, read_data_folder, read_recipe
from postnms.runs.loading import load_detector
from postnms.runs.provenance import provenance
from postnms.suppression import SUPPRESSORS, Suppressor, get_suppressor


def dump(
    run: Path,
    data: Path | None,
    file: Path,
    overrides: Sequence[str],
    score_threshold: float | None,
    most: int | None,
    out: Console,
) -> None:
    """Write a run's candidates of the val split, and its rows."""
    from postnms.candidate_files.dump import dump_candidates
    from postnms.data.splits import open_val
    from postnms.detectors.network import Selection
    from postnms.distributed.processes import this_process

    _check_output(file)
    if this_process().num_processes > 1:
        raise UserError("dump: expected one process, got several; a split is written in one piece")
    folder = RunFolder(run)
    recipe = override(read_recipe(folder), overrides)
    data = read_data_folder(folder) if data is None else data
    split, detector = open_val(recipe, data, read_categories(folder)), load_detector(folder, recipe)
    about = {
        **provenance(recipe.seed, data),
        "recipe": recipe.model_dump(mode="json"),
        "weights_sha256": hash_of(folder.newest_weights),
    }
    annotations = None if data is None else recipe.data.val_annotations
    if data is not None:
        about["annotations_sha256"] = hash_of(data / recipe.data.val_annotations)
    selection = Selection(most=most, score_threshold=score_threshold)
    with (
        CandidateWriter(file, split.dataset.categories, annotations, about) as writer,
        progress_bar("images", len(split)) as done,
    ):
        count = dump_candidates(
            detector, split, writer, recipe.evaluation.batch_size, selection, done
        )
    out.print(f"{count} candidates of {len(split)} images in {file}", soft_wrap=True)


def import_candidates(results: Path, data: Path, file: Path, out: Console) -> None:
    """Write another detector's COCO results as candidates."""
    _check_output(file)
    truth = open_annotations(data)
    if not results.is_file():
        raise UserError(f"{results}: no such file")
    hashes = {"results_sha256": hash_of(results), "annotations_sha256": hash_of(Path(truth.source))}
    about = {**provenance(0, data), "results": results.name, **hashes}
    with progress_bar("images", len(truth.content["images"])) as done:
        images, count = import_results(results, truth, Path(truth.source).name, file, about, done)
    out.print(f"{count} candidates of {images} images in {file}", soft_wrap=True)


def list_suppressors(out: Console) -> None:
    """Names, settings and what each is."""
    common = set(Suppressor.model_fields)
    for name, rule in SUPPRESSORS.items():
        settings = {
            field: value
            for field, value in rule.model_dump(mode="json").items()
            if field not in common
        }
        settings |= {field: True for field in ("class_agnostic",) if getattr(rule, field)}
        texts = {
            field: value if isinstance(value, str) else json.dumps(value)
            for field, value in settings.items()
        }
        shown = ":".join(f"{field}={text}" for field, text in texts.items())
        out.print(f"{name}{':' if shown else ''}{shown}", soft_wrap=True, style="bold")
        out.print(f"    {(type(rule).__doc__ or '').splitlines()[0]}", soft_wrap=True)
    out.print(f"all have also: {', '.join(sorted(common))}", soft_wrap=True)


def compare_suppressors(
    file: Path,
    data: Path | None,
    names: str | None,
    sweeps: Sequence[str],
    folder: Path,
    bootstrap: int,
    out: Console,
) -> None:
    """Replay suppressors, print the table, write it with a plot."""
    from postnms.analysis.plots import plot_comparison

    candidates = open_candidates(file)
    suppressors = _chosen(candidates, names, out)
    for text in sweeps:
        suppressors = sweep(suppressors, text)
    truth = _open_truth(candidates, data, out)
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("rows", count_rows(candidates, suppressors)) as done:
        rows = compare(candidates, truth, suppressors, bootstrap=bootstrap, done=done)
    _print_wide(_comparison_table(rows), out)
    write_text(folder / "compare.csv", _comparison_csv(rows))
    described = [dataclasses.asdict(row) for row in rows]
    write_json(folder / "compare.json", {**_origin(candidates, data), "rows": described})
    plot_comparison(rows, folder / "compare.png")
    out.print(f"compare.csv, compare.json and compare.png in {folder}", soft_wrap=True)


def analyse_candidates(
    file: Path,
    data: Path | None,
    names: str | None,
    recall: float | None,
    folder: Path,
    out: Console,
) -> None:
    """Error types, duplicates and the placement of clusters, printed, written and plotted."""
    from postnms.analysis.plots import plot_errors, plot_placement

    candidates = open_candidates(file)
    suppressors = _chosen(candidates, "nms" if names is None else names, out)
    truth = _open_truth(candidates, data, out)
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("rows", len(suppressors) + len(candidates.rows)) as done:
        analysis = analyse(candidates, truth, suppressors, recall, done)
    _print_wide(_error_table(analysis), out)
    for side, ious in (("before the stage", analysis.before), ("after it", analysis.after)):
        if ious is not None and len(ious.key):
            means = [
                f"{name} {getattr(ious, column).mean():.3f}" for name, column in _PLACEMENT.items()
            ]
            out.print(
                f"{len(ious.key)} positive clusters {side}: {', '.join(means)}", soft_wrap=True
            )
    write_json(folder / "analyse.json", {**_origin(candidates, data), **_analysis_json(analysis)})
    plot_errors(analysis, folder / "errors.png")
    plot_placement(analysis, folder / "placement.png")
    out.print(f"analyse.json, errors.png and placement.png in {folder}", soft_wrap=True)


def _open_truth(file: CandidateFile, data: Path | None, out: Console) -> Truth:
    """The annotations, with a word if they have changed: those of another split may have the same image ids."""
    truth, written = open_truth(file, data), file.provenance.get("annotations_sha256")
    if data is not None and written not in (None, hash_of(Path(truth.source))):
        out.print(
            f"note: {truth.source} is not the file that {file.path.name} was made with",
            soft_wrap=True,
        )
    return truth


def _check_output(file: Path) -> None:
    """Refuse to replace what is no file of candidates: an input, or the weights of a run."""
    if file.exists():
        try:
            open_candidates(file)
        except UserError as error:
            raise UserError(
                f"--out {file}: is there and is no file of candidates; name another"
            ) from error


def _chosen(file: CandidateFile, names: str | None, out: Console) -> dict[str, Suppressor]:
    """The named suppressors; None: all that the file has the columns for."""
    if names is not None:
        chosen = {name: get_suppressor(name) for name in _split_names(names)}
        for rule in chosen.values():
            rule.check_columns(file.extra)
        return chosen
    if missing := SUPPRESSORS.keys() - (found := usable(file)).keys():
        why = "left out, since the candidates lack their columns or scores in [0, 1]"
        out.print(f"{why}: {', '.join(sorted(missing))}", soft_wrap=True)
    return found


def _split_names(text: str) -> list[str]:
    """At commas, but not at those within brackets, as of ``wbf:model_weights=[1,2]``."""
    names, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            names.append("")
        else:
            names[-1] += letter
    return [name.strip() for name in names]


def _origin(file: CandidateFile, data: Path | None) -> dict[str, Any]:
    return {**provenance(0, data), "candidates": {"file": file.path.name, **file.provenance}}


def _comparison_table(rows: Sequence[ComparedRow]) -> Table:
    numbers = [Column(name, justify="right") for name in (*SHOWN, "ms", "gain", "95 % interval")]
    table = Table(Column("suppressor", no_wrap=True), *numbers, box=None, padding=(0, 1, 0, 0))
    for row in rows:
        gain = "-" if row.gain is None else f"{row.gain:+.2f}"
        interval = "" if row.low is None else f"{row.low:+.2f} {row.high:+.2f}"
        figures = [show(row.figures[name]) for name in SHOWN]
        table.add_row(row.name, *figures, show(row.milliseconds, 2), gain, interval)
    return table


def _error_table(analysis: Analysis) -> Table:
    at = f"dup. % at recall {analysis.recall:.2f}"
    titles = ["AP50", *ERROR_TYPES, "false pos.", "false neg.", at, "max. recall"]
    numbers = [Column(title, justify="right") for title in titles]
    title = "what each type of error costs, in AP50 (how often it is made)"
    table = Table(
        Column("row", no_wrap=True), *numbers, box=None, padding=(0, 1, 0, 0), title=title
    )
    for name, row in analysis.rows.items():
        errors = row.errors
        costs = [f"{errors.costs[kind]:.1f} ({errors.counts[kind]})" for kind in ERROR_TYPES]
        ends = [f"{errors.false_positives:.1f}", f"{errors.false_negatives:.1f}"]
        table.add_row(
            name, show(errors.ap50), *costs, *ends, show(row.duplicates), f"{row.max_recall:.2f}"
        )
    return table


def _print_wide(table: Table, out: Console) -> None:
    """Print without folding columns, also where the console is narrower than the table."""
    needed = Measurement.get(out, out.options.update(max_width=1000), table).maximum
    Console(file=out.file, width=max(needed, out.width), highlight=False, markup=False).print(table)
