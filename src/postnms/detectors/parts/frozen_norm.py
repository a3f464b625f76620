"""Batch norm that is not trained: its statistics and its weights stay as they are."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d


class FrozenNorm(FrozenBatchNorm2d):
    """A batch norm with fixed statistics and weights, in one pass over a feature map.

    torchvision and timm scale a map and then shift it, in two passes. Under autocast their float32
    scales turn it into float32 as well. Here it keeps its type, so the activations of half
    precision take half the memory.

    Args:
        norm: where the statistics, the weights and epsilon come from. Modules inside it, such as
            the activation that timm puts there, are taken over and follow the norm.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps)
        with torch.no_grad():
            for name, own in self.named_buffers():
                given = getattr(norm, name)
                if given is not None:  # A norm may have no weights, which is a weight of 1.
                    own.copy_(given)
        for name, module in norm.named_children():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (B, C, H, W) after the norm and the modules that follow it."""
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
        for module in self.children():
            x = module(x)
        return x


def freeze_norms(network: nn.Module) -> None:
    """Replace every batch norm inside a network by its :class:`FrozenNorm`, in place.

    The names of the weights stay. Only ``num_batches_tracked`` is gone, which nothing reads then.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, FrozenNorm(child))
        else:
            freeze_norms(child)
