"""The figures that the paper prints, by table and row. They stand nowhere else.

Source: "Post-NMS Training Strategy for Object Detection" (Qi, Xie, Liu, Jia, Zhou), Tables 1 to 6.
All are in per cent, on COCO: Table 1 on test-dev, Tables 2 to 6 on the val split.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PaperRow:
    """A row of a table of the paper, and what it is called in the experiment of the table."""

    label: str
    """How the paper calls it."""
    side: str
    """``ARM.ROW``, as in the differences of an experiment."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the paper prints, by the names of COCO's figures. Empty: it is no row of the paper."""
    reference: str | None = None
    """Label of the row that this one is compared with."""


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper. A figure has no rows."""

    name: str
    """Its name on the command line, and that of the file of its experiment without the ending."""
    columns: tuple[str, ...] = ()
    """The figures that the paper prints."""
    rows: tuple[PaperRow, ...] = ()


def _detector(label: str, bare: str, stage: str, ap: float, gain: float) -> tuple[PaperRow, ...]:
    """Return two rows of Table 1, which prints AP of the stage and in brackets the gain.

    AP of the detector alone follows from them.
    """
    before = f"{label}, NMS"
    return (
        PaperRow(before, bare, {"AP": round(ap - gain, 1)}),
        PaperRow(f"{label}, post-NMS", stage, {"AP": ap}, before),
    )


def _rival(label: str, side: str, *figures: float, reference: str | None = "NMS") -> PaperRow:
    """Return a row of Table 2, which prints four figures, or a row beside those of the paper."""
    return PaperRow(label, side, dict(zip(_RIVALS, figures, strict=False)), reference)


def _ap(label: str, side: str, ap: float, reference: str | None = None) -> PaperRow:
    return PaperRow(label, side, {"AP": ap}, reference)


def _ap_ar(label: str, side: str, ap: float, ar: float, reference: str | None = None) -> PaperRow:
    return PaperRow(label, side, {"AP": ap, "AR100": ar}, reference)


_RIVALS = ("AP", "AP50", "AP75", "AR100")
_BARE, _FULL = "baseline, NMS", "full, post-NMS"
_UNION, _NONE, _PLAIN = "union", "none", "(1, 0, 0), not moved"

TABLE_1 = PaperTable(
    "table1",
    ("AP",),
    (
        *_detector("Faster R-CNN R50", "bare.nms", "paper.post_nms", 38.4, 1.9),
        *_detector("Faster R-CNN R101", "r101_bare.nms", "r101.post_nms", 40.6, 1.7),
        *_detector("Faster R-CNN X101", "x101_bare.nms", "x101.post_nms", 42.5, 1.5),
        *_detector("RetinaNet R50", "retinanet_bare.nms", "retinanet.post_nms", 37.2, 1.3),
        *_detector(
            "RetinaNet R101", "retinanet_r101_bare.nms", "retinanet_r101.post_nms", 38.9, 1.3
        ),
        *_detector(
            "RetinaNet X101", "retinanet_x101_bare.nms", "retinanet_x101.post_nms", 40.2, 1.2
        ),
        *_detector("Cascade R-CNN R101 (3)", "cascade_bare.nms", "cascade.post_nms", 42.9, 0.8),
        *_detector(
            "Cascade R-CNN R101 (1~3)", "cascade_bare.mean:nms", "cascade.mean:post_nms", 43.4, 0.6
        ),
    ),
)
TABLE_2 = PaperTable(
    "table2",
    _RIVALS,
    (
        _rival("NMS", "bare.nms", 36.7, 58.4, 39.5, 50.4, reference=None),
        _rival("box voting", "bare.box_voting", 37.1, 58.4, 40.3, 50.9),
        _rival("Soft-NMS", "bare.soft_nms_linear", 37.5, 58.4, 41.3, 57.2),
        _rival("IoU-NMS", "iou_net.iou_guided_nms", 37.6, 56.2, 40.9, 51.8),
        _rival("Softer-NMS", "softer.variance_voting", 38.0, 57.8, 41.3, 52.3),
        _rival("SCE", "bare.sce", 37.9, 58.0, 41.2, 52.1),
        _rival("post-NMS", "paper.post_nms", 38.6, 58.2, 41.9, 53.1),
        _rival("IoU-Net, boxes moved", "iou_net.iou_net"),
        _rival("PISA", "pisa.nms"),
        _rival("contextual rescoring", "bare.contextual"),
        _rival("Relation Networks", "bare.relation"),
        _rival("control without clusters", "control.post_nms"),
        _rival("stage at its best", "best.post_nms+soft_nms_linear"),
    ),
)
TABLE_3 = PaperTable(
    "table3",
    ("AP",),
    (
        _ap(_BARE, "bare.nms", 36.7),
        _ap("w/o DCL, NMS", "without_dcl.nms", 34.5, _BARE),
        _ap("w/o CEF, NMS", "without_cef.nms", 36.7, _BARE),
        _ap("w/o IRC, NMS", "without_irc.nms", 36.5, _BARE),
        _ap("w/o IAC, NMS", "without_iac.nms", 36.6, _BARE),
        _ap("full, NMS", "paper.nms", 37.0, _BARE),
        _ap("w/o DCL, post-NMS", "without_dcl.post_nms", 36.0, _FULL),
        _ap("w/o CEF, post-NMS", "without_cef.post_nms", 37.9, _FULL),
        _ap("w/o IRC, post-NMS", "without_irc.post_nms", 38.2, _FULL),
        _ap("w/o IAC, post-NMS", "without_iac.post_nms", 36.9, _FULL),
        _ap(_FULL, "paper.post_nms", 38.6, _BARE),
    ),
)
TABLE_4 = PaperTable(
    "table4",
    ("AP", "AR100"),
    (
        _ap_ar("intersection", "intersection.post_nms", 37.9, 52.0, _UNION),
        _ap_ar("mean", "mean.post_nms", 38.2, 52.1, _UNION),
        _ap_ar("vote", "vote.post_nms", 38.2, 52.3, _UNION),
        _ap_ar(_UNION, "paper.post_nms", 38.6, 53.1),
    ),
)
TABLE_5 = PaperTable(
    "table5",
    ("AP", "AR100"),
    (
        _ap_ar(_NONE, "weighting_none.post_nms", 37.5, 51.9),
        _ap_ar("cls", "weighting_cls.post_nms", 38.1, 52.2, _NONE),
        _ap_ar("loc", "weighting_loc.post_nms", 38.4, 52.9, _NONE),
        _ap_ar("all", "paper.post_nms", 38.6, 53.1, _NONE),
    ),
)
TABLE_6 = PaperTable(
    "table6",
    ("AP",),
    (
        _ap(_PLAIN, "paper.ori_fixed:post_nms", 37.0),
        PaperRow("(0, 1, 0), not moved", "paper.clu_fixed:post_nms", {}, _PLAIN),
        PaperRow("(0, 0, 1), not moved", "paper.obj_fixed:post_nms", {}, _PLAIN),
        _ap("(0.8, 0.1, 0.1), not moved", "paper.all_fixed:post_nms", 36.6, _PLAIN),
        _ap("(1, 0, 0), moved", "paper.ori:post_nms", 38.1, _PLAIN),
        _ap("(0, 1, 0), moved", "paper.clu:post_nms", 33.4, _PLAIN),
        _ap("(0, 0, 1), moved", "paper.obj:post_nms", 36.2, _PLAIN),
        _ap("(0.8, 0.1, 0.1), moved", "paper.all:post_nms", 38.6, _PLAIN),
    ),
)
TABLES = {
    table.name: table
    for table in (
        TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_6, PaperTable("figure2")
    )
}  # fmt: skip
"""The tables, and the figure, by name."""
