"""What ``postnms benchmark`` does."""

import os
from pathlib import Path

from rich.console import Console

from postnms.cli.train import progress_bar
from postnms.files.atomic import write_json, write_text
from postnms.runs.provenance import provenance
from postnms.speed import clustering, memory, pooling, report


def benchmark(folder: Path, rounds: int, threads: int | None, quick: bool, out: Console) -> None:
    """Measure, print the tables, write them with a plot. ``threads``: of the second pass; None: all cores."""
    folder.mkdir(parents=True, exist_ok=True)
    for line in report.library_lines(libraries := clustering.libraries()):
        out.print(line, soft_wrap=True)
    figures = _measure(rounds, sorted({1, threads or os.cpu_count() or 1}), quick, libraries)
    for sheet in report.sheets(figures):
        out.print(f"\n{sheet.text()}", soft_wrap=True)
    about = {**provenance(0, None), "rounds": rounds, "quick": quick}
    write_json(folder / "benchmark.json", report.to_json(figures, about))
    write_text(folder / "benchmark.md", report.to_markdown(figures, about))
    report.plot_clustering(figures.clustering, folder / "clustering.png")
    out.print(f"\nbenchmark.json, benchmark.md and clustering.png in {folder}", soft_wrap=True)


def _measure(
    rounds: int, threads: list[int], quick: bool, libraries: dict[str, str | None]
) -> report.Figures:
    sizes, pyramids = clustering.sizes(quick), pooling.SIZES[:1] if quick else pooling.SIZES
    most = memory.SIZES[:1] if quick else memory.SIZES
    compared: list[clustering.Comparison] = []
    pooled: list[pooling.Pooling] = []
    with progress_bar("measurements", 2 * len(threads) + 1 + len(most)) as done:
        for count in threads:
            compared += clustering.compare(sizes, rounds, count)
            done(1)
            pooled += pooling.compare(pyramids, rounds, count)
            done(1)
        bad = clustering.time_bad_inputs(rounds, clustering.BAD_INPUT_BOXES)
        done(1)
        taken: dict[int, float | None] = {}
        for count in most:
            taken[count] = memory.bytes_a_box(count)
            done(1)
    return report.Figures(libraries, compared, bad, clustering.BAD_INPUT_BOXES, pooled, taken)
