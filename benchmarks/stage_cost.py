"""Time the stage of a run beside its detector alone.

    python benchmarks/stage_cost.py RUN [--data FOLDER] [--images 24] [--rounds 7] [--out FILE]

RUN is a trained run with a stage, for example of

    postnms train finetune --data FOLDER --out RUN

The sides share the detector of the run, and take turns on the same val images in one process, one
image at a time on one thread. Each of them runs plain NMS; ``post_nms`` also runs the stage on what
NMS kept, and the last side everything that the run has, such as Soft-NMS on the boxes of the stage.
Times are those of the processor, so that other programs do not count.
"""

import sys
from typing import Any

from postnms.runs.folder import RunFolder, read_recipe
from sides import compare_sides, parse_arguments

MOST_RATIO = 1.08
"""Largest ratio of the time with the paper's stage to that of the detector alone."""
MOST_RATIO_OF_ALL = 1.15
"""The same for the whole run, with a suppressor on the boxes of the stage."""


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    recipe = read_recipe(RunFolder(arguments.run))
    if recipe.stage is None:
        sys.exit(f"{arguments.run}: expected a run with a stage, got one without")
    changes: dict[str, dict[str, Any]] = {"nms": {"stage": None}, "post_nms": {}}
    aims = {"post_nms": MOST_RATIO}
    if recipe.stage.suppressor is not None:
        changes["post_nms"] = {"stage.suppressor": None}
        whole = f"post_nms+{recipe.stage.suppressor}"
        changes[whole], aims[whole] = {}, MOST_RATIO_OF_ALL
    compare_sides(arguments, recipe, changes, aims)


if __name__ == "__main__":
    main()
