"""Tables of the paper, and the plans of their runs."""

from postnms.experiments.paper.experiments import reproduction
from postnms.experiments.plan import make_plan

RIVALS = ("iou_net", "softer", "pisa")
"""Arms of Table 2 that change how the detector is trained."""


def plan_of(name, folder, data=None, scale="coco", seeds=1, changes=(), frozen=False):
    """Return the table and the plan of its runs."""
    one = reproduction(name, scale, seeds, changes, frozen=frozen)
    return one, make_plan(one.experiment, folder, data)
