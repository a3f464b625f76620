"""Settings of the post-NMS stage (paper: sections 3.1 to 3.4).

Each ablation of the paper, and each choice that the paper leaves open, is one field.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from postnms.clustering import Representative
from postnms.config import Config, Fraction, Positive
from postnms.stage.fusion import Fusion, Mean
from postnms.stage.losses import Weighting
from postnms.stage.matching import MemberLabels
from postnms.structures import POST_NMS_ROW, SECOND_NMS_ROW, suppressed_row
from postnms.suppression.registry import choose


def _known_suppressor(text: str) -> str:
    """Return the text of a suppressor without a limit or columns of further networks."""
    choice = choose(text)
    if choice.suppressor.columns:
        raise ValueError(
            f"expected a suppressor that needs boxes and scores alone; "
            f"{text!r} needs {', '.join(choice.suppressor.columns)}"
        )
    if "max_detections" in choice.settings:
        raise ValueError(
            f"expected no max_detections, since the limit is that of the detector; got {text!r}"
        )
    return text


class StageConfig(Config):
    """Settings of the stage: its networks, its training rows, its losses and its inference.

    The defaults are the paper's full method. All scores and IoUs are in [0, 1]. An unknown field,
    or a value of a wrong type or range, raises pydantic's ``ValidationError``.

    Example:
        >>> from postnms import StageConfig
        >>> config = StageConfig(representative="vote", weighting="cls")
        >>> config.fusion
        (0.8, 0.1, 0.1)
    """

    decoupling: bool = True
    """Whether a 3x3 convolution lies between the pyramid and the stage (Eq. 4). Off: Table 3's
    "w/o DCL"."""
    channels: Positive | None = None
    """Channels of the decoupling layer's output, an even number where there is a class encoding.
    None: as many as the pyramid has, or 256 if its levels differ. Not used without the layer."""
    encoding: Literal["add", "concat", "none"] = "add"
    """How the class encoding joins the pooled RoI feature.

    ``add``: it is added at each of the 7x7 cells. ``concat``: it becomes further channels of each
    cell. ``none``: it is left out, Table 3's "w/o CEF"."""
    encoding_base: Annotated[float, Field(gt=1)] = 1000.0
    """Base of the wavelengths of the class encoding, above 1. The paper prints 1000."""
    width: Positive = 1024
    """Outputs of each fully connected layer."""
    shared_trunk: bool = False
    """Whether objectness and refinement share the two fully connected layers before their outputs.
    Off: the two networks have separate layers."""

    clusters: bool = True
    """Whether the stage is trained on clusters. Off: the control experiment. Each candidate is then
    a cluster of its own: it is labelled by its own IoU, its weight is 1, and no box represents
    several candidates. The networks, the candidates and beta stay the same."""
    candidates: Literal["proposals", "sampled"] = "proposals"
    """Candidates that the stage is trained on.

    ``proposals``: the proposals (or anchors) of the same step without injected ground truth, scored
    in evaluation mode. ``sampled``: the sample that the detector's own losses are computed on, also
    without injected ground truth."""
    max_candidates: Positive = 512
    """Largest number of training candidates for each image, chosen by score."""
    score_threshold: Fraction | None = None
    """Training candidates score more than this. None: the detector's own threshold in evaluation
    mode."""
    representative: Representative = "union"
    """The box that represents a cluster (Eq. 3, Table 4).
    :func:`postnms.representative_boxes` describes the methods."""
    representative_rows: bool = True
    """Whether the stage is trained on representative boxes. Off: Table 3's "w/o IRC", and s_clu
    equals s_obj."""
    members: bool = True
    """Whether the stage is trained on every member of a cluster. Off: on its key alone, apart from
    the representative box. This is one reading of Table 3's "w/o IAC"; the other is
    ``weighting="none"``."""
    member_labels: MemberLabels = "cluster"
    """What a member learns. ``cluster``: the label and the object of its cluster, as in the paper.
    ``own``: it is positive if it overlaps an object of its class by more than ``positive_iou``
    itself, and learns the one that it overlaps most. Among crowded objects a cluster holds boxes of
    several of them. The representative box learns the object of the cluster in any case."""
    weighting: Weighting = "all"
    """Importance weights in use (Table 5). ``cls`` and ``loc``: only those of that loss. ``none``:
    every weight is 1."""
    positive_iou: Fraction = 0.5
    """A cluster is positive if a member's IoU with an object of its class is over this. A member
    with a label of its own is positive if its own IoU is."""
    objectness: Literal["label", "iou"] = "label"
    """What the objectness of a positive row is trained towards; of a negative row it is always 0.

    ``label``: 1, as in the paper. ``iou``: the IoU of the row's box, moved by its refinement, with
    the object. The score then says how well the box lies."""
    delta_weights: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (
        10.0,
        10.0,
        5.0,
        5.0,
    )
    """Factors of the box deltas (dx, dy, dw, dh), as in Fast R-CNN, above 0."""
    smooth_l1_beta: Annotated[float, Field(gt=0)] = 1.0
    """Smooth-L1 is quadratic for errors below this and linear above it. The unit is that of the
    weighted deltas; above 0."""
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the detector's own losses L_pre, at least 0."""
    beta: Literal["ratio"] | Annotated[float, Field(ge=0)] = "ratio"
    """Weight of the stage's losses L_post. ``ratio``: keys / candidates of the batch. A number, at
    least 0: that fixed weight."""

    fusion: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Weights (w_ori, w_clu, w_obj) of the three scores (Table 6), any finite numbers. Scores stay
    in [0, 1] if no weight is negative and the sum is 1."""
    fusion_mean: Mean = "arithmetic"
    """How the weights join the three scores. ``arithmetic``: the weighted sum, as in the paper.
    ``geometric``: the product of the scores, each to the power of its weight."""
    relocation: bool = True
    """Whether each key is moved by its refinement (Table 6)."""
    second_nms: Fraction | None = None
    """IoU threshold of a second NMS after the stage, which gives one more row of results. None: no
    second NMS."""
    suppressor: Annotated[str, AfterValidator(_known_suppressor)] | None = None
    """A suppressor that runs on the boxes that the stage has moved, with the scores of the stage,
    as ``postnms compare`` takes it: ``soft_nms_linear`` or ``nms:iou=0.6``. It gives one more row
    of results. Its limit of detections is that of the detector. None: no such row."""
    thinning_iou: Fraction | None = 0.9
    """IoU threshold of a greedy NMS that decides which candidates are moved for ``suppressor``:
    those that it keeps, and every key of the row ``nms``. So nearly equal boxes are moved once.
    None: all of them, for suppressors that average over the boxes of an object, such as
    ``box_voting``."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        rows = {"candidates", "max_candidates", "score_threshold", "members", "member_labels"}
        losses = {"weighting", "positive_iou", "objectness", "smooth_l1_beta", "alpha", "beta"}
        return frozenset(rows | losses)

    @property
    def fuse(self) -> Fusion:
        """How the three scores of a box become one."""
        return Fusion(self.fusion, self.fusion_mean)

    @property
    def has_representatives(self) -> bool:
        """Whether clusters have representative boxes: they are rows, and give s_clu."""
        return self.clusters and self.representative_rows

    @property
    def suppressed_row(self) -> str | None:
        """Name of the row of ``suppressor``, None if there is none."""
        return None if self.suppressor is None else suppressed_row(choose(self.suppressor).family)

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows that a stage gives, in their order."""
        second = None if self.second_nms is None else SECOND_NMS_ROW
        return tuple(filter(None, (POST_NMS_ROW, second, self.suppressed_row)))
