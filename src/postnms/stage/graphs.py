"""The decoupling layer and its pooling as one operator of a graph without gradients.

Whether the layer runs before the pooling or at the boxes alone depends on the number of boxes. In a
graph that number is a symbol, so the operator decides when the graph runs.

r: boxes, s: cells along a side of the pooled features, B: images, C, C': channels before and after
the layer.
"""

import torch
from torch import Tensor, nn

from postnms.stage.decoupling import DecouplingLayer
from postnms.structures import Level

torch.library.define(
    "postnms::pool_decoupled",
    "(Tensor[] levels, Tensor boxes, Tensor image, int[] strides, int cells, SymInt count, "
    "Tensor[] weights, Tensor[] biases) -> Tensor",
)


@torch.library.impl("postnms::pool_decoupled", "CompositeExplicitAutograd")
def _pool_decoupled(
    levels: list[Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: list[int],
    cells: int,
    count: int,
    weights: list[Tensor],
    biases: list[Tensor],
) -> Tensor:
    named = {str(index): level for index, level in enumerate(levels)}
    layer = _layer(named, weights, biases)
    # The strides have to be those of the fake below. The heads flatten the result in any case.
    return layer.pooler(named, strides, cells, count)(boxes, image).contiguous()


@torch.library.register_fake("postnms::pool_decoupled")
def _(
    levels: list[Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: list[int],
    cells: int,
    count: int,
    weights: list[Tensor],
    biases: list[Tensor],
) -> Tensor:
    return levels[0].new_empty(boxes.shape[0], weights[0].shape[0], cells, cells)


def _layer(
    levels: dict[str, Tensor], weights: list[Tensor], biases: list[Tensor]
) -> DecouplingLayer:
    """Return the layer with these tensors: one weight (C', C, 3, 3) for all levels, or one each."""
    shapes = {name: Level(level.shape[1], 1) for name, level in levels.items()}
    with torch.device("meta"):  # A layer without memory of its own.
        layer = DecouplingLayer(shapes, len(weights[0]))
    convs = layer.conv.values() if isinstance(layer.conv, nn.ModuleDict) else [layer.conv]
    for conv, weight, bias in zip(convs, weights, biases, strict=True):
        conv.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return layer
