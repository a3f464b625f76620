"""``cluster_nms`` against public implementations of NMS: milliseconds, ratios and targets, taking turns.

python benchmarks/cluster_nms.py [--rounds 7] [--threads 1] [--quick]
python benchmarks/cluster_nms.py --crossover    # the grid against the scan, on which ``cpu.GRID_FROM`` rests
"""

import argparse

from postnms.ops.clustering import cpu
from postnms.speed import clustering, report
from postnms.speed.timing import milliseconds, torch_threads

SCAN_ALWAYS = 10**9


def settled(of: clustering.Scene, grid_from: int) -> None:
    before, cpu.GRID_FROM = cpu.GRID_FROM, grid_from
    try:
        cpu.cluster_nms(*of, clustering.IOU_THRESHOLD)
    finally:
        cpu.GRID_FROM = before


def crossover(rounds: int) -> report.Sheet:
    rows = []
    for title, make in (
        ("all keys", clustering.disjoint),
        ("10 an object", lambda count: clustering.scene(count, 1)),
    ):
        for count in (256, 512, 768, 1024, 1536, 2048, 3072, 4096):
            of = make(count)
            ways = {"grid": 0, "scan": SCAN_ALWAYS}
            found = milliseconds(
                {name: lambda f=f, of=of: settled(of, f) for name, f in ways.items()}, rounds
            )
            rows.append([title, f"{count}", f"{found['grid']:.3f}", f"{found['scan']:.3f}"])
    return report.Sheet(
        "Where the grid gets faster than the scan", ["scene", "boxes", "grid ms", "scan ms"], rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--crossover", action="store_true")
    given = parser.parse_args()
    if given.crossover:
        with torch_threads(given.threads):
            print(crossover(given.rounds).text())
        return
    print("\n".join(report.library_lines(clustering.libraries())))
    rows = clustering.compare(clustering.sizes(given.quick), given.rounds, given.threads)
    print(f"\n{report.clustering_sheet(rows, given.threads).text()}")
    print(f"\n{report.target_sheet(clustering.targets(rows)).text()}")


if __name__ == "__main__":
    main()
