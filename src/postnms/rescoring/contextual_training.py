"""Training of contextual rescoring on a file of candidates.

B: images of the file, d: detections of all of them after suppression.
"""

import torch
from torch import Tensor
from torch.nn import functional

from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.replays import IMAGES_AT_ONCE, join_chunks
from postnms.config import Progress
from postnms.data.dataset import Truth
from postnms.data.targets import group_by_image, targets_of
from postnms.errors import UserError
from postnms.rescoring.by_image import Material
from postnms.rescoring.config import ContextualConfig
from postnms.rescoring.contextual import ContextualNetwork
from postnms.rescoring.quality import quality_of
from postnms.rescoring.steps import Epoch, take_step
from postnms.structures import Detections, derive, take


def train_contextual(
    network: ContextualNetwork,
    material: Material,
    config: ContextualConfig,
    generator: torch.Generator,
    done: Progress,
) -> dict[str, float]:
    """Train a network in place: the squared error of the new scores against the quality.

    Memory holds the detections of all images after suppression, about 50 bytes each.

    Args:
        network: the network.
        material: the images to train on.
        config: the settings of the training.
        generator: decides the order of the images.
        done: called after every step with the number of its images.

    Returns:
        ``loss``: the loss of the last epoch, a mean over the detections.

    Raises:
        UserError: there is no detection to learn from, or the training diverges.
    """
    file, sizes = material.file, material.sizes
    detections, quality, counted = _with_quality(network, file, material.truth)
    if not bool(counted.any()):
        raise UserError(
            f"{file.path}: expected at least one detection to train on, got none that "
            f"{config.suppressor} leaves outside of crowd regions"
        )
    counts = detections.image.bincount(minlength=len(file))
    starts = counts.cumsum(0) - counts
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    sums = Epoch()
    for _ in range(config.epochs):
        sums = Epoch()
        for images in torch.randperm(len(file), generator=generator).split(config.batch_size):
            image = torch.arange(len(images)).repeat_interleave(counts[images])
            within = torch.arange(len(image)) - (counts[images].cumsum(0) - counts[images])[image]
            rows = starts[images][image] + within
            batch = derive(take(detections, rows), image=image, num_images=len(images))
            used = counted[rows]
            if bool(used.any()):
                scores = network.logits(batch, sizes[images]).sigmoid()
                loss = functional.mse_loss(scores[used], quality[rows][used])
                sums.add(loss, len(scores[used]))
                take_step(optimizer, loss)
            done(len(images))
    return {"loss": sums.mean_loss}


def _with_quality(
    network: ContextualNetwork, file: CandidateFile, truth: Truth
) -> tuple[Detections, Tensor, Tensor]:
    """Return the detections of all images, their quality, and whether they are trained on."""
    parts, qualities, used = [], [], []
    by_image = group_by_image(truth)
    for ids, candidates in file.chunks(IMAGES_AT_ONCE):
        detections = network.suppressed(candidates)
        quality, counted = quality_of(detections, targets_of(truth, ids, by_image))
        parts.append(detections)
        qualities.append(quality)
        used.append(counted)
    return join_chunks(parts, len(file)), torch.cat(qualities), torch.cat(used)
