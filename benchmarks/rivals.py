"""Time the heads of learned rivals beside the detector that they look at.

    python benchmarks/rivals.py RUN [--data FOLDER] [--images 24] [--rounds 7] [--out FILE]

RUN has trained heads of both kinds, for example from

    postnms train RECIPE --data FOLDER --out RUN --from BARE --freeze detector \\
        --set stage=null --set heads.iou={} --set heads.density={}

The sides share the detector of the run, and take turns on the same val images in one process. All
of them run plain NMS. Times are those of the processor, so that other programs do not count. What
re-scoring takes is printed by ``postnms rescore``.
"""

from typing import Any

from postnms.runs.folder import RunFolder, read_recipe
from sides import compare_sides, parse_arguments

SIDES: dict[str, dict[str, Any]] = {
    "alone": {"heads.iou": None, "heads.density": None},
    "iou_guided_nms": {"heads.iou.refine_steps": 0, "heads.density": None},
    "iou_net": {"heads.density": None},
    "adaptive_nms": {"heads.iou": None},
}
"""By the row that each side gives, how its recipe differs from that of the run."""
MOST_RATIO = 1.15
"""Largest ratio of the time with a head to that of the detector alone that there should be."""


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    recipe = read_recipe(RunFolder(arguments.run))
    changes = {name: {"stage": None, **change} for name, change in SIDES.items()}
    compare_sides(arguments, recipe, changes, dict.fromkeys(SIDES, MOST_RATIO))


if __name__ == "__main__":
    main()
