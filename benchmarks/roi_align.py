"""Time the pooling of a pyramid beside torchvision's ``MultiScaleRoIAlign``.

    python benchmarks/roi_align.py [--rounds 15] [--threads 1]

It prints milliseconds and ratios of the forward and of the backward pass.
"""

import argparse

from postnms.speed import pooling, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    rows = pooling.compare_pooling(pooling.SIZES, given.rounds, given.threads)
    print(report.pooling_sheet(rows).text())


if __name__ == "__main__":
    main()
