"""Training of the two stages of Sequential Context Encoding, one after the other.

B: images of the file, n: rows of all sequences of an image.
"""

import torch
from torch import Tensor
from torch.nn import functional

from postnms.candidate_files.reader import CandidateFile
from postnms.config import Progress
from postnms.data.dataset import Truth
from postnms.data.targets import group_by_image, targets_of
from postnms.errors import UserError
from postnms.rescoring.config import SCEConfig
from postnms.rescoring.sce import SCENetwork
from postnms.rescoring.sce_labels import best_of_objects, kept_by_nms
from postnms.rescoring.sequences import Sequences
from postnms.rescoring.steps import take_step
from postnms.structures import Candidates, Targets

DROP = 0.1
"""What the learning rate is multiplied by after ``drop_after`` epochs."""


def train_sce(
    network: SCENetwork,
    file: CandidateFile,
    truth: Truth,
    sizes: Tensor,
    config: SCEConfig,
    generator: torch.Generator,
    done: Progress,
) -> None:
    """Train a network in place: weighted binary cross entropy, one image a step.

    Memory holds the candidates of one image, which are read again in every epoch.

    Args:
        network: the network.
        file: the candidates to train on.
        truth: the annotations of their images.
        sizes: (B, 2) height and width of each image in pixels.
        config: the settings of the training.
        generator: decides the order of the images.
        done: called after every step with 1.

    Raises:
        UserError: a stage has no box to learn from, or the training diverges.
    """
    by_image = group_by_image(truth)
    for number in range(len(network.stages)):
        optimizer = torch.optim.SGD(
            network.stages[number].parameters(), lr=config.lr, momentum=config.momentum
        )
        for epoch in range(config.epochs):
            optimizer.param_groups[0]["lr"] = config.lr * (
                DROP if epoch >= config.drop_after else 1
            )
            steps = 0
            for image in torch.randperm(len(file), generator=generator).tolist():
                candidates, _ = file.part(image, image + 1)
                targets = targets_of(truth, file.image_ids[image : image + 1], by_image)
                size = sizes[image : image + 1]
                loss = _loss(network, number, candidates, targets, size, config)
                if loss is not None:
                    take_step(optimizer, loss)
                    steps += 1
                done(1)
            if not steps:
                raise UserError(
                    f"{file.path}: expected at least one box to train stage {number + 1} of sce "
                    f"on, got none with a score of min_score={config.min_score:g} or more outside "
                    "of crowd regions"
                )


def _loss(
    network: SCENetwork,
    number: int,
    candidates: Candidates,
    targets: Targets,
    size: Tensor,
    config: SCEConfig,
) -> Tensor | None:
    """Return the mean loss of a stage over the boxes of an image, None if it looks at none."""
    scores = candidates.scores
    with torch.no_grad():
        for before in range(number):
            scores = network.scores_after(before, candidates, scores, size)
    sequences = network.sequences(candidates, scores)
    wanted, counted = _labels(number, candidates, sequences, targets, config)
    if not bool(counted.any()):
        return None
    logits = network.logits(number, candidates, scores, size, sequences)
    weight = torch.tensor(config.positive_weights[number])
    return functional.binary_cross_entropy_with_logits(
        logits[counted], wanted[counted].float(), pos_weight=weight
    )


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
