"""The scales at which the tables of the paper can be made: recipes, and settings that go with them.

The files of the tables have the recipes of the paper, for COCO. The other scales are for some
hundred images and a CPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from postnms.experiments.config import RescorerName

ScaleName = Literal["coco", "small", "pretrained"]


@dataclass(frozen=True)
class Scale:
    """What takes the place of the settings of the paper."""

    recipes: Mapping[str, str] | None = None
    """By recipe for COCO, what takes its place. Those that are not there have no counterpart.
    None: every recipe stays."""
    backbone: str | None = None
    """The backbone of the recipes, which the labels of rows name beside that of the paper. None: it
    is that of the paper."""
    heads: tuple[str, ...] = ()
    """Settings of arms that have a rival's head."""
    rescorers: Mapping[RescorerName, tuple[str, ...]] = field(default_factory=dict)
    """Settings of rescorers by their name."""
    frozen: tuple[str, ...] = ()
    """Settings of stages and heads that are trained on frozen detectors."""

    def recipe(self, name: str) -> str | None:
        """Return the recipe in place of one for COCO. None: there is none."""
        return name if self.recipes is None else self.recipes.get(name)

    def without(self, changes: Sequence[str]) -> "Scale":
        """Return the scale without settings of heads and lengths that a user gives in ``changes``.

        A length has several fields. The change of one of them takes the place of all.
        """
        given = set(map(field_of, changes))
        own_length = any(field_of(text) in given for text in self.frozen)
        heads = tuple(text for text in self.heads if field_of(text) not in given)
        return replace(self, heads=heads, frozen=() if own_length else self.frozen)


def field_of(change: str) -> str:
    """Return the field that a change FIELD=VALUE is of."""
    return change.partition("=")[0]


_HEADS = ("heads.iou.width=256", "heads.samples=128")
"""Heads as wide as the stage of the recipes for a CPU."""
_RESCORERS: dict[RescorerName, tuple[str, ...]] = {
    "sce": ("epochs=6", "drop_after=4", "lr=0.05", "width=64", "hidden=32", "attention=32"),
    "contextual": ("epochs=20", "hidden=64", "batch_size=32", "suppressor=soft_nms_linear"),
    "relation": (),
}
"""Chosen on a part of the training images of blood cells, which was set aside
(``docs/rivals.md``)."""

SCALES: dict[ScaleName, Scale] = {
    "coco": Scale(),
    "small": Scale(
        recipes={
            "faster_rcnn_r50_fpn_1x": "faster_rcnn_r18_small_paper",
            "retinanet_r50_fpn_1x": "retinanet_r18_small",
            "cascade_rcnn_r101_fpn_1x": "cascade_rcnn_r18_small",
        },
        backbone="R18",
        heads=_HEADS,
        rescorers=_RESCORERS,
        frozen=("training.iterations=832", "training.steps=[665,775]"),
    ),
    "pretrained": Scale(
        recipes={"faster_rcnn_r50_fpn_1x": "finetune_paper"},
        backbone="EfficientNet-lite0",
        heads=_HEADS,
        rescorers=_RESCORERS,
        frozen=("training.iterations=10 epochs",),
    ),
}
"""The scales by name. On a frozen detector a part of the weights is trained, and the features do
not change, so these trainings take half of the iterations of the recipe."""
