"""Inputs that the compiled kernel takes as they are, and others beside them: equal results."""

import pytest
import torch

from postnms.ops import cluster_nms
from postnms.ops.clustering import cpu
from tests.support.clustering import random_scene


class Marked(torch.Tensor):
    """A subclass of a tensor, as those that torchvision.tv_tensors has."""


def strided(tensor):
    """The same values, with others between them in memory."""
    return torch.stack([tensor, tensor + 1], -1)[..., 0]


WAYS = {
    "as they are": lambda boxes, scores, groups: (boxes, scores, groups),
    "strided": lambda *scene: tuple(map(strided, scene)),
    "read from the end": lambda *scene: tuple(part.flip(0).flip(0) for part in scene),
    "a leaf of a gradient": lambda boxes, *rest: (boxes.clone().requires_grad_(), *rest),
    "within a gradient": lambda boxes, scores, groups: (
        boxes, scores.clone().requires_grad_() * 1, groups
    ),
    "a parameter": lambda boxes, *rest: (torch.nn.Parameter(boxes), *rest),
    "a subclass": lambda boxes, *rest: (boxes.as_subclass(Marked), *rest),
    "scores in float64": lambda boxes, scores, groups: (boxes, scores.double(), groups),
    "groups of 32 bits": lambda boxes, scores, groups: (boxes, scores, groups.int()),
    "negated once more": lambda boxes, scores, groups: (
        torch.complex(boxes, -boxes).conj().imag, scores, groups
    ),
}  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 100, 300])
@pytest.mark.parametrize("way", WAYS)
def test_equal_values_give_equal_clusters(way, count):
    scene = random_scene(count)
    expected = cluster_nms(*scene, 0.5, backend="reference")
    for backend in (None, "cpu"):
        found = cluster_nms(*WAYS[way](*scene), 0.5, backend=backend)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("shape", "counts"), [((3, 5), (3, 3)), ((3, 4), (2, 3)), ((3, 4), (3, 2))]
)
def test_the_kernel_refuses_columns_of_other_lengths(shape, counts):
    scores, groups = torch.zeros(counts[0]), torch.zeros(counts[1], dtype=torch.int64)
    assert cpu.cluster_nms(torch.zeros(shape), scores, groups, 0.5) is None
