"""Tables of the paper whose runs are planned, without the rivals that cannot be built yet."""

from dataclasses import replace

from postnms.experiments.paper.experiments import reproduction
from postnms.experiments.plan import make_plan

RIVALS = ("iou_net", "softer", "pisa")
"""Arms of Table 2 that change how the detector is trained."""
PENDING = ("softer", "pisa")
"""Those of them whose settings no recipe has yet. A test holds the settings as texts."""


def reproduced(name, scale="coco", seeds=1, changes=()):
    """Return the table and its experiment, without the arms that cannot be built yet."""
    one = reproduction(name, scale, seeds, changes)
    config = one.experiment.config
    arms = {arm: fields for arm, fields in config.arms.items() if arm not in PENDING}
    rows = tuple(row for row in one.table.rows if row.side.partition(".")[0] in arms)
    sides = {row.side for row in rows}
    differences = tuple(pair for pair in config.differences if set(pair) <= sides)
    changed = config.model_copy(update={"arms": arms, "differences": differences})
    return replace(
        one, table=replace(one.table, rows=rows), experiment=replace(one.experiment, config=changed)
    )


def plan_of(name, folder, data=None, **options):
    """Return the table and the plan of its runs."""
    one = reproduced(name, **options)
    return one, make_plan(one.experiment, folder, data)
