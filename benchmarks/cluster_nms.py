"""Time ``cluster_nms`` beside public implementations of NMS.

    python benchmarks/cluster_nms.py [--rounds 7] [--threads 1] [--quick]
    python benchmarks/cluster_nms.py --small [--rounds 500] [--threads 1]
    python benchmarks/cluster_nms.py --crossover

All libraries take turns. The first command prints milliseconds, ratios and targets. The second one
times calls of few boxes, also through ``postnms.suppress``, beside torchvision. The third one times
the two ways of the CPU kernel, the grid and the scan, at several sizes. ``cpu.GRID_FROM`` is chosen
from these times.
"""

import argparse

import torchvision

from postnms import cluster_nms, suppress
from postnms.ops.clustering import cpu
from postnms.speed import clustering, report
from postnms.speed.timing import milliseconds, torch_threads

SCAN_ALWAYS = 10**9
"""A value of ``cpu.GRID_FROM`` with which the grid is never used."""


def cluster_from(scene: clustering.Scene, grid_from: int) -> None:
    """Cluster a scene with another value of ``cpu.GRID_FROM``."""
    before = cpu.GRID_FROM
    cpu.GRID_FROM = grid_from
    try:
        cpu.cluster_nms(*scene, clustering.IOU_THRESHOLD)
    finally:
        cpu.GRID_FROM = before


def crossover(rounds: int) -> report.Sheet:
    """Return a table with the times of the grid and of the scan."""
    rows = []
    for title, make in (
        ("all keys", clustering.disjoint),
        ("10 an object", lambda count: clustering.synthetic_scene(count, 1)),
    ):
        for count in (512, 1024, 2048, 4096, 6144, 8192, 12288, 16384):
            scene = make(count)
            ways = {"grid": 0, "scan": SCAN_ALWAYS}
            sides = {
                name: lambda grid_from=grid_from, scene=scene: cluster_from(scene, grid_from)
                for name, grid_from in ways.items()
            }
            times = milliseconds(sides, rounds)
            rows.append([title, f"{count}", f"{times['grid']:.3f}", f"{times['scan']:.3f}"])
    return report.Sheet(
        "Where the grid gets faster than the scan", ["scene", "boxes", "grid ms", "scan ms"], rows
    )


def small_calls(rounds: int) -> report.Sheet:
    """Return a table with the microseconds of calls of few boxes, and of torchvision's beside them.

    Five groups in a scene: ``cluster_nms`` and ``suppress`` with them stand beside ``batched_nms``,
    and ``cluster_nms`` without them beside ``nms``.
    """
    rows = []
    threshold = clustering.IOU_THRESHOLD
    for count in (10, 30, 100, 300, 1000):
        scene = clustering.synthetic_scene(count, 5)
        arrays = tuple(column.numpy() for column in scene)
        sides = {
            "cluster_nms": lambda s=scene: cluster_nms(*s, threshold),
            "suppress, torch": lambda s=scene: suppress(*s, iou_threshold=threshold),
            "suppress, numpy": lambda a=arrays: suppress(*a, iou_threshold=threshold),
            "batched_nms": lambda s=scene: torchvision.ops.batched_nms(*s, threshold),
            "one group": lambda s=scene: cluster_nms(*s[:2], None, threshold),
            "nms": lambda s=scene: torchvision.ops.nms(*s[:2], threshold),
        }
        times = milliseconds(sides, rounds, warmup=20)
        ratios = times["batched_nms"] / times["cluster_nms"], times["nms"] / times["one group"]
        texts = [f"{1000 * time:.1f}" for time in times.values()]
        rows.append([f"{count}", *texts, *(f"{ratio:.2f}" for ratio in ratios)])
    columns = ["boxes", *sides, "times as fast as batched_nms", "as nms"]
    return report.Sheet("Microseconds of calls of few boxes", columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--crossover", action="store_true")
    given = parser.parse_args()
    if given.small:
        with torch_threads(given.threads):
            print(small_calls(given.rounds).text())
        return
    if given.crossover:
        with torch_threads(given.threads):
            print(crossover(given.rounds).text())
        return
    print("\n".join(report.library_lines(clustering.libraries())))
    rows = clustering.compare_clustering(clustering.sizes(given.quick), given.rounds, given.threads)
    print(f"\n{report.clustering_sheet(rows, given.threads).text()}")
    print(f"\n{report.target_sheet(clustering.targets(rows)).text()}")


if __name__ == "__main__":
    main()
