"""``postnms benchmark``: the speed of the library on this machine."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postnms.cli.console import command_line, progress_bar, say

if TYPE_CHECKING:
    from postnms.speed.report import Figures


def benchmark(
    folder: Annotated[
        Path,
        typer.Option(
            "--out", help="Folder to write benchmark.json, benchmark.md and clustering.png to."
        ),
    ],
    rounds: Annotated[
        int,
        typer.Option(
            min=1, help="Number of timed calls of each library; slow calls are timed less often."
        ),
    ] = 7,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the largest inputs.")] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of the second pass, after one with a single thread; default: all cores.",
        ),
    ] = None,
) -> None:
    """Time this library on this machine: clustering, pooling, stage, evaluation and data.

    Clustering and pooling are timed beside torchvision and other libraries. The stage and the
    reading of images are timed beside the least that the machine has to do for them.
    """
    from postnms.files.atomic import write_json, write_text
    from postnms.files.folders import own_folder
    from postnms.runs.provenance import provenance
    from postnms.speed import clustering, report

    libraries = clustering.libraries()
    for line in report.library_lines(libraries):
        say(line)
    passes = sorted({1, threads or os.cpu_count() or 1})
    with own_folder(folder, "a folder of 'benchmark'", report.MARKER, command=command_line()):
        figures = _measure(rounds, passes, quick, libraries)
        for sheet in report.sheets(figures):
            say(f"\n{sheet.text()}")
        about = {**provenance(0, None, command_line()), "rounds": rounds, "quick": quick}
        # The JSON file marks the folder, so it comes first.
        write_json(folder / report.MARKER.name, report.to_json(figures, about))
        write_text(folder / "benchmark.md", report.to_markdown(figures, about))
        report.plot_clustering(figures.clustering, folder / "clustering.png")
    say(f"\nbenchmark.json, benchmark.md and clustering.png in {folder}")


def _measure(
    rounds: int, threads: list[int], quick: bool, libraries: dict[str, str | None]
) -> "Figures":
    from postnms.speed import clustering, memory, pooling, report, surroundings

    sizes = clustering.sizes(quick)
    pyramids = pooling.SIZES[:1] if quick else pooling.SIZES
    memory_sizes = memory.SIZES[:1] if quick else memory.SIZES
    compared: list[clustering.Comparison] = []
    pooled: list[pooling.Pooling] = []
    around: list[surroundings.Work] = []
    around_sizes = surroundings.QUICK if quick else surroundings.WHOLE
    with progress_bar("measurements", 3 * len(threads) + 1 + len(memory_sizes)) as done:
        for count in threads:
            compared += clustering.compare_clustering(sizes, rounds, count)
            done(1)
            pooled += pooling.compare_pooling(pyramids, rounds, count)
            done(1)
            around += surroundings.time_surroundings(around_sizes, rounds, count)
            done(1)
        bad = clustering.time_bad_inputs(rounds, clustering.BAD_INPUT_BOXES)
        done(1)
        bytes_a_box: dict[int, float | None] = {}
        for count in memory_sizes:
            bytes_a_box[count] = memory.bytes_a_box(count)
            done(1)
    return report.Figures(
        libraries, compared, bad, clustering.BAD_INPUT_BOXES, pooled, bytes_a_box, around
    )
