"""The named recipes by name: those on COCO, as in the paper's Table 1, and small ones for a CPU.

The docstring of a recipe is its description for users. ``postnms recipes list`` prints the first
line, and ``postnms recipes show`` prints all of it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from postnms.config import nearest
from postnms.errors import UserError, shown
from postnms.recipes.coco import (
    cascade_rcnn_r101_fpn_1x,
    cascade_rcnn_r101_fpn_1x_mean,
    faster_rcnn_r50_fpn_1x,
    faster_rcnn_r101_fpn_1x,
    faster_rcnn_x101_fpn_1x,
    pisa_r50_fpn_1x,
    retinanet_r50_fpn_1x,
    retinanet_r101_fpn_1x,
    retinanet_x101_fpn_1x,
    softer_nms_r50_fpn_2x,
)
from postnms.recipes.config import Recipe, override
from postnms.recipes.small import (
    cascade_rcnn_r18_small,
    demo,
    faster_rcnn_r18_small,
    faster_rcnn_r18_small_paper,
    finetune,
    finetune_paper,
    pisa_r18_small,
    retinanet_r18_small,
    softer_nms_r18_small,
)

RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        demo,
        finetune,
        finetune_paper,
        faster_rcnn_r18_small,
        faster_rcnn_r18_small_paper,
        retinanet_r18_small,
        cascade_rcnn_r18_small,
        softer_nms_r18_small,
        pisa_r18_small,
        faster_rcnn_r50_fpn_1x,
        faster_rcnn_r101_fpn_1x,
        faster_rcnn_x101_fpn_1x,
        retinanet_r50_fpn_1x,
        retinanet_r101_fpn_1x,
        retinanet_x101_fpn_1x,
        cascade_rcnn_r101_fpn_1x,
        cascade_rcnn_r101_fpn_1x_mean,
        softer_nms_r50_fpn_2x,
        pisa_r50_fpn_1x,
    )
}
"""The functions that make the recipes, by their names."""


def get_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return a named recipe, with other values of some fields, given by their dotted paths.

    Raises UserError for an unknown name, path or value.

    Example:
        >>> from postnms import get_recipe
        >>> get_recipe("demo", {"training.iterations": 20}).training.iterations
        20
    """
    if name not in RECIPES:
        raise UserError(f"recipe {shown(name)}: no such recipe ({nearest(name, list(RECIPES))})")
    recipe = RECIPES[name]().model_copy(update={"name": name})
    return override(recipe, changes or {})


def describe(name: str) -> str:
    """Return the description of a named recipe: its purpose, its command and its results.

    The first line stands alone.
    """
    return inspect.cleandoc(RECIPES[name].__doc__ or "")
