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
from postnms.rescoring.steps import Epoch, take_step
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
) -> dict[str, float]:
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

    Returns:
        For each stage the loss of its last epoch, a mean over the boxes, and ``right``: the share
        of boxes in [0, 1] that it judged rightly, which are those to keep at a factor above 0.5
        and the others at most at that. The names are ``stage_1_loss``, ``stage_1_right`` and so on.

    Raises:
        UserError: a stage has no box to learn from, or the training diverges.
    """
    by_image = group_by_image(truth)
    figures = {}
    for number in range(len(network.stages)):
        optimizer = torch.optim.SGD(
            network.stages[number].parameters(), lr=config.lr, momentum=config.momentum
        )
        for epoch in range(config.epochs):
            optimizer.param_groups[0]["lr"] = config.lr * (
                DROP if epoch >= config.drop_after else 1
            )
            sums = Epoch()
            for image in torch.randperm(len(file), generator=generator).tolist():
                candidates, _ = file.part(image, image + 1)
                targets = targets_of(truth, file.image_ids[image : image + 1], by_image)
                size = sizes[image : image + 1]
                judged = _judge(network, number, candidates, targets, size, config)
                if judged is not None:
                    loss, logits, wanted = judged
                    sums.add(loss, len(wanted), int(((logits > 0) == wanted).sum()))
                    take_step(optimizer, loss)
                done(1)
            if not sums.boxes:
                raise UserError(
                    f"{file.path}: expected at least one box to train stage {number + 1} of sce "
                    f"on, got none with a score of min_score={config.min_score:g} or more outside "
                    "of crowd regions"
                )
            figures[f"stage_{number + 1}_loss"] = sums.loss / sums.boxes
            figures[f"stage_{number + 1}_right"] = sums.right / sums.boxes
    return figures


def _judge(
    network: SCENetwork,
    number: int,
    candidates: Candidates,
    targets: Targets,
    size: Tensor,
    config: SCEConfig,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return what a stage says of the m boxes of an image that it is trained on, None if m is 0.

    Returns:
        Its loss, a mean over the boxes.
        (m,) its logits.
        (m,) bool: which boxes it shall keep.
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
