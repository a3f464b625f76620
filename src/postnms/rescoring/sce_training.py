"""Training of the two stages of Sequential Context Encoding, one after the other.

n: rows of all sequences of an image.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from postnms.config import Progress
from postnms.rescoring.by_image import Judged, Material, train_by_image
from postnms.rescoring.config import SCEConfig
from postnms.rescoring.sce import SCENetwork
from postnms.rescoring.sce_labels import best_of_objects, kept_by_nms
from postnms.rescoring.sequences import Sequences
from postnms.structures import Candidates, Targets


def train_sce(
    network: SCENetwork,
    material: Material,
    config: SCEConfig,
    generator: torch.Generator,
    done: Progress,
) -> dict[str, float]:
    """Train a network in place: weighted binary cross entropy, one image a step.

    Args:
        network: the network.
        material: the images to train on.
        config: the settings of the training.
        generator: decides the order of the images.
        done: called after every step with 1.

    Returns:
        For each stage the loss of its last epoch, a mean over the boxes, and ``right``: the share
        of boxes in [0, 1] that it judged rightly, which are those to keep at a factor above 0.5
        and the others at most at that. The names are ``stage_1_loss``, ``stage_1_right`` and so on.

    Raises:
        UserError: a stage has no box to learn from, or the training diverges.
    """
    figures = {}
    for number, stage in enumerate(network.stages):
        optimizer = torch.optim.SGD(stage.parameters(), lr=config.lr, momentum=config.momentum)
        judge, name = partial(_judge, network, number, config), f"stage {number + 1} of sce"
        last = train_by_image(judge, optimizer, material, config, generator, done, name)
        figures[f"stage_{number + 1}_loss"] = last.mean_loss
        figures[f"stage_{number + 1}_right"] = last.right / last.judged
    return figures


def _judge(
    network: SCENetwork,
    number: int,
    config: SCEConfig,
    candidates: Candidates,
    targets: Targets,
    size: Tensor,
) -> Judged | None:
    """Return what stage ``number`` says of the boxes of an image that it is trained on.

    The loss is their mean. None: there is no such box.
    """
    scores = candidates.scores
    with torch.no_grad():
        for before in range(number):
            scores = network.scores_after(before, candidates, scores, size)
    sequences = network.sequences(candidates, scores)
    wanted, counted = _labels(number, candidates, sequences, targets, config)
    if not bool(counted.any()):
        return None
    logits = network.logits(number, candidates, scores, size, sequences)[counted]
    wanted = wanted[counted]
    weight = torch.tensor(config.positive_weights[number])
    loss = functional.binary_cross_entropy_with_logits(logits, wanted.float(), pos_weight=weight)
    return loss, logits, wanted


def _labels(
    number: int,
    candidates: Candidates,
    sequences: Sequences,
    targets: Targets,
    config: SCEConfig,
) -> tuple[Tensor, Tensor]:
    """Return which rows a stage shall keep, and which rows it is trained on: (n,) bool each."""
    if number:
        return best_of_objects(candidates, sequences, targets, config.truth_threshold)
    kept = kept_by_nms(candidates, sequences, config.nms_threshold)
    return kept, torch.ones_like(kept)
