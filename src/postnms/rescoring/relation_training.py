"""Training of the duplicate removal of Relation Networks.

n: rows of all sequences of an image, T: thresholds.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from postnms.boxes import pairwise_iou
from postnms.config import Progress
from postnms.rescoring.by_image import Judged, Material, train_by_image
from postnms.rescoring.config import RelationConfig
from postnms.rescoring.quality import on_crowd
from postnms.rescoring.relation import RelationNetwork
from postnms.structures import Candidates, Targets, take


def train_relation(
    network: RelationNetwork,
    material: Material,
    config: RelationConfig,
    generator: torch.Generator,
    done: Progress,
) -> dict[str, float]:
    """Train a network in place: weighted binary cross entropy of score times factor.

    Args:
        network: the network.
        material: the images to train on.
        config: the settings of the training.
        generator: decides the order of the images.
        done: called after every step with 1.

    Returns:
        ``loss``, that of the last epoch, a mean over boxes and thresholds, and ``right``: the share
        of boxes and thresholds in [0, 1] that were judged rightly, which are those to keep at a
        factor above 0.5 and the others at most at that.

    Raises:
        UserError: there is no box to learn from, or the training diverges.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    judge = partial(_judge, network, config)
    last = train_by_image(judge, optimizer, material, config, generator, done, config.kind)
    return {"loss": last.mean_loss, "right": last.right / last.judged}


def _judge(
    network: RelationNetwork,
    config: RelationConfig,
    candidates: Candidates,
    targets: Targets,
    size: Tensor,
) -> Judged | None:
    """Return what the network says of the boxes of an image that it is trained on.

    The loss is their mean. None: there is no such box.
    """
    sequences = network.sequences(candidates)
    looked_at = take(candidates, sequences.rows)
    wanted, counted = boxes_to_keep(looked_at, targets, config.thresholds)
    if not bool(counted.any()):
        return None
    logits = network.logits(looked_at, sequences)[counted]
    wanted = wanted[counted]
    # The logarithm of the product, so that no factor near 0 is rounded to 0.
    product = (functional.logsigmoid(logits) + looked_at.scores[counted, None].log()).exp()
    weight = torch.where(wanted, config.positive_weight, 1.0)
    loss = functional.binary_cross_entropy(product, wanted.float(), weight)
    return loss, logits, wanted


def boxes_to_keep(
    looked_at: Candidates, targets: Targets, thresholds: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Return which boxes of one image are to be kept for an object, at each IoU threshold.

    A box belongs to the object of its class with which it has the largest IoU (ties: the first
    one). Of the boxes of an object whose IoU is over the threshold, the one with the best score is
    to be kept. Crowd regions are no objects.

    Args:
        looked_at: boxes, those of a class by falling score.
        targets: the objects of the image.
        thresholds: T IoU thresholds.

    Returns:
        (n, T) bool: whether a box is to be kept.
        (n,) bool: whether a box is trained on. It is not if it lies on a crowd region, and is to be
        kept at no threshold.
    """
    boxes, labels = looked_at.boxes, looked_at.labels
    is_object = ~targets.crowd
    wanted = torch.zeros(len(boxes), len(thresholds), dtype=torch.bool)
    if bool(is_object.any()):
        objects = take(targets, is_object)
        iou = pairwise_iou(boxes.double(), objects.boxes.double())
        iou = torch.where(labels[:, None] == objects.labels, iou, 0.0)
        overlap, own = iou.max(dim=1)
        belongs = functional.one_hot(own, len(objects.boxes)).bool()
        for number, threshold in enumerate(thresholds):
            near = belongs & (overlap > threshold)[:, None]
            first = near & (near.cumsum(dim=0) == 1)
            wanted[:, number] = first.any(dim=1)
    return wanted, wanted.any(dim=1) | ~on_crowd(boxes, labels, targets)
