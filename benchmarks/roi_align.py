"""Pooling a pyramid, forward and backward, against torchvision's ``MultiScaleRoIAlign``: milliseconds and ratio.

python benchmarks/roi_align.py [--rounds 15] [--threads 1]
"""

import argparse

from postnms.speed import pooling, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print(report.pooling_sheet(pooling.compare(pooling.SIZES, given.rounds, given.threads)).text())


if __name__ == "__main__":
    main()
