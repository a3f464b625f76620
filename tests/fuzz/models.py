"""A model of a few numbers with the parts of a detector, so that its files are small."""

import torch
from torch import nn

LABELS = [{"label": i, "id": 2 * i + 1, "name": name} for i, name in enumerate(("cell", "é", "z"))]
"""The label map of the runs of this model."""


def tiny_model():
    """Return a module with ``network``, ``stage`` and ``heads``, always with the same numbers."""
    model = nn.Module()
    model.frozen = False
    model.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model.stage = nn.Linear(4, 2)
    model.heads = nn.Linear(2, 1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def tiny_optimizer(model):
    """Return SGD with momentum after one step."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model.heads(model.stage(model.network(torch.eye(4, 3)))).square().sum().backward()
    optimizer.step()
    return optimizer
