"""Settings of the rescorers, with the published values as defaults."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, field_validator, model_validator

from postnms.config import Config, Fraction, Positive
from postnms.recipes import parse_changes
from postnms.suppression import get_suppressor

Width = Annotated[int, Field(gt=0, le=8192)]
"""A number of units of a layer."""


class ContextualConfig(Config):
    """Contextual rescoring (arXiv 1912.12290): a score from all detections of the image.

    The published rescorer was trained on 118,000 images. A few hundred images need less: see
    ``docs/rivals.md``.
    """

    needs_features: ClassVar[bool] = False
    kind: Literal["contextual"] = "contextual"
    suppressor: str | None = None
    """What gives the detections, as ``postnms compare --suppressor`` takes it. Its
    ``max_detections`` limits the detections of an image, 100 by default. None: greedy NMS at the
    IoU threshold that the file of candidates names, or at 0.5."""
    hidden: Width = 256
    """Width of the states of the recurrent layers, in each direction."""
    layers: Annotated[int, Field(gt=0, le=16)] = 3
    """Number of recurrent layers."""
    head: Width = 80
    """Width of the hidden layer between the recurrent layers and the score."""
    epochs: Positive = 100
    """How often training sees every image."""
    batch_size: Positive = 256
    """Images of one step of training."""
    lr: PositiveFloat = 3e-3
    """Learning rate of Adam."""

    @field_validator("suppressor")
    @classmethod
    def _check_suppressor(cls, text: str | None) -> str | None:
        if text is not None:
            get_suppressor(text)
        return text

    @property
    def passes(self) -> int:
        """How often training sees every image."""
        return self.epochs


class SCEConfig(Config):
    """Sequential Context Encoding (NeurIPS 2018): two recurrent stages in place of NMS.

    The candidates need the extra column ``box_features``.
    """

    needs_features: ClassVar[bool] = True
    kind: Literal["sce"] = "sce"
    min_score: Annotated[float, Field(gt=0, le=1)] = 0.01
    """A stage looks at boxes that score at least this: the first stage by the score of the
    detector, the second one by that score times the score of the first stage."""
    max_length: Positive | None = 1000
    """Largest number of boxes of an image and class that a stage looks at, by score. Time and
    memory grow with its square. None: all."""
    max_detections: Annotated[int, Field(gt=0, lt=2**31)] = 100
    """Largest number of detections of an image. Those with the best final scores stay."""
    width: Width = 128
    """Width of the two layers that describe a box."""
    hidden: Width = 128
    """Width of the states of the encoders and decoders, in each direction."""
    attention: Width = 64
    """Width of the layer in which the attention compares two boxes. The source does not say it."""
    nms_threshold: Fraction = 0.5
    """IoU threshold of the NMS that the first stage learns."""
    truth_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Least IoU with an object of a box that the second stage may learn to keep for it."""
    positive_weights: tuple[PositiveFloat, PositiveFloat] = (4.0, 2.0)
    """Weight of a box to keep in the loss of each stage. Any other box has the weight 1."""
    epochs: Positive = 7
    """Epochs of each stage. The second stage is trained when the first one is finished."""
    drop_after: Positive = 5
    """Number of epochs after which the learning rate is divided by 10."""
    lr: PositiveFloat = 0.01
    """Learning rate of SGD. A step takes one image."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD, below 1."""

    @property
    def passes(self) -> int:
        """How often training sees every image."""
        return 2 * self.epochs


class RelationConfig(Config):
    """Duplicate removal of Relation Networks (arXiv 1711.11575, section 4.3), in place of NMS.

    The candidates need the extra column ``box_features``. The source trains it together with the
    detector, so what belongs to training on candidates alone is settled here: ``epochs``,
    ``drop_after`` and ``lr``.
    """

    needs_features: ClassVar[bool] = True
    kind: Literal["relation"] = "relation"
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.05
    """A class of an image is looked at if its best box scores at least this. Its other boxes may
    score less."""
    max_length: Positive = 150
    """Largest number of boxes of an image and class that are looked at, by score. Time and memory
    grow with its square."""
    max_detections: Annotated[int, Field(gt=0, lt=2**31)] = 100
    """Largest number of detections of an image. Those with the best final scores stay."""
    width: Width = 128
    """Width of the vector that describes a box. It is a multiple of ``heads``."""
    heads: Annotated[int, Field(gt=0, le=1024)] = 16
    """Number of relations, each an attention of its own."""
    keys: Width = 1024
    """Width of queries and keys over all relations. It is a multiple of ``heads``."""
    thresholds: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """IoUs over which a box may be the one to keep for an object, an output for each. The final
    score has their mean."""
    positive_weight: PositiveFloat = 4.0
    """Weight of a box to keep in the loss. Any other box has the weight 1."""
    epochs: Positive = 12
    """How often training sees every image."""
    drop_after: Positive = 9
    """Number of epochs after which the learning rate is divided by 10."""
    lr: PositiveFloat = 5e-4
    """Learning rate of Adam. A step takes one image."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        for name in ("width", "keys"):
            if getattr(self, name) % self.heads:
                raise ValueError(
                    f"{name}: expected a multiple of heads={self.heads}, got {getattr(self, name)}"
                )
        return self

    @property
    def passes(self) -> int:
        """How often training sees every image."""
        return self.epochs


RescorerConfig = ContextualConfig | SCEConfig | RelationConfig
CONFIGS: dict[str, type[ContextualConfig] | type[SCEConfig] | type[RelationConfig]] = {
    "contextual": ContextualConfig,
    "sce": SCEConfig,
    "relation": RelationConfig,
}
"""The settings of each kind of rescorer, by its name."""


def rescorer_config(kind: str, texts: Sequence[str]) -> RescorerConfig:
    """Return the settings of a kind of rescorer, with changes as ``train-rescorer --set`` has them.

    Raises UserError for a text of another form, an unknown field, and a value that does not fit.
    """
    return CONFIGS[kind].parse(parse_changes(texts), kind)
