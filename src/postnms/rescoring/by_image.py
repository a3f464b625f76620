"""Training with one image a step, read from a file of candidates in every epoch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.candidate_files.reader import CandidateFile
from postnms.config import Progress
from postnms.data.dataset import Truth
from postnms.data.targets import group_by_image, targets_of
from postnms.errors import UserError
from postnms.rescoring.config import RelationConfig, SCEConfig
from postnms.rescoring.steps import Epoch, take_step
from postnms.structures import Candidates, Targets

DROP = 0.1
"""What the learning rate is multiplied by after ``drop_after`` epochs."""


@dataclass(frozen=True)
class Material:
    """What a network is trained on."""

    file: CandidateFile
    """The candidates of B images."""
    truth: Truth
    """The annotations of the images."""
    sizes: Tensor
    """(B, 2) height and width of each image in pixels."""


Judged = tuple[Tensor, Tensor, Tensor]
"""The loss of an image, the logits of any shape, and what they should be: a bool for each."""
Judge = Callable[[Candidates, Targets, Tensor], Judged | None]
"""Gives the loss of the candidates of one image, whose objects and size (1, 2) come with it. None:
there is nothing to learn from."""


def train_by_image(
    judge: Judge,
    optimizer: torch.optim.Optimizer,
    material: Material,
    config: SCEConfig | RelationConfig,
    generator: torch.Generator,
    done: Progress,
    name: str,
) -> Epoch:
    """Take a step for each image, in all epochs, and return the figures of the last one.

    Memory holds the candidates of one image.

    Args:
        judge: gives the loss of an image.
        optimizer: changes the network by steps down the loss.
        material: the images.
        config: the settings of the training.
        generator: decides the order of the images.
        done: called after every step with 1.
        name: what is trained, for messages.

    Raises:
        UserError: there is no box to learn from, or the training diverges.
    """
    by_image = group_by_image(material.truth)
    file, sums = material.file, Epoch()
    for epoch in range(config.epochs):
        rate = config.lr * (DROP if epoch >= config.drop_after else 1)
        optimizer.param_groups[0]["lr"] = rate
        sums = Epoch()
        for image in torch.randperm(len(file), generator=generator).tolist():
            candidates, _ = file.part(image, image + 1)
            targets = targets_of(material.truth, file.image_ids[image : image + 1], by_image)
            judged = judge(candidates, targets, material.sizes[image : image + 1])
            if judged is not None:
                loss, logits, wanted = judged
                sums.add(loss, wanted.numel(), int(((logits > 0) == wanted).sum()))
                take_step(optimizer, loss)
            done(1)
        if not sums.judged:
            raise UserError(
                f"{file.path}: expected at least one box to train {name} on, got none with a "
                f"score of min_score={config.min_score:g} or more outside of crowd regions"
            )
    return sums
