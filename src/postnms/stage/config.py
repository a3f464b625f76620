"""Settings of the post-NMS stage; each ablation of the paper is one field. Defaults: the paper's full method."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from postnms.clustering import Representative
from postnms.config import Config, Fraction, Positive
from postnms.stage.losses import Weighting


class StageConfig(Config):
    """The stage, its training rows, its losses and its inference."""

    decoupling: bool = True
    """3x3 convolution between the pyramid and the stage; off is Table 3's "w/o DCL"."""
    channels: Positive | None = None
    """Channels of the decoupling layer's output; None: as many as the pyramid has, or 256 if its levels differ."""
    encoding: Literal["add", "concat", "none"] = "add"
    """How the class encoding joins the pooled feature; ``none`` is Table 3's "w/o CEF"."""
    encoding_base: Annotated[float, Field(gt=1)] = 1000.0
    width: Positive = 1024
    """Outputs of each fully connected layer."""
    shared_trunk: bool = False
    """One trunk for objectness and refinement instead of two."""

    candidates: Literal["proposals", "sampled"] = "proposals"
    """Training candidates: the step's own proposals scored as at test time, or the detector's training sample."""
    max_candidates: Positive = 512
    """Most training candidates an image, by score."""
    score_threshold: Fraction | None = None
    """Training candidates score more than this; None: the detector's own threshold at test time."""
    representative: Representative = "union"
    """Table 4."""
    representative_rows: bool = True
    """Train on representative boxes; off is Table 3's "w/o IRC", and s_clu is then s_obj."""
    members: bool = True
    """Train on every member; off: on the keys (and representative boxes) alone."""
    weighting: Weighting = "all"
    """Importance weights in use, Table 5."""
    positive_iou: Fraction = 0.5
    """A cluster is positive if a member's IoU with an object of its class is over this."""
    delta_weights: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (
        10.0,
        10.0,
        5.0,
        5.0,
    )
    smooth_l1_beta: Annotated[float, Field(gt=0)] = 1.0
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the detector's own losses."""
    beta: Literal["ratio"] | Annotated[float, Field(ge=0)] = "ratio"
    """Weight of the stage's losses: keys / candidates of the batch, or a fixed number."""

    fusion: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Weights (w_ori, w_clu, w_obj) of the three scores, Table 6."""
    relocation: bool = True
    """Move each key by its refinement."""
    second_nms: Fraction | None = None
    """IoU threshold of a second NMS after the stage, reported as a further row; None: no second NMS."""
