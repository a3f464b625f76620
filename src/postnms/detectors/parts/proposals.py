"""Region proposals (Faster R-CNN, arXiv 1506.01497, section 3.1).

torchvision's ``RegionProposalNetwork`` holds the modules and the settings. Here each of its steps
is a function, and the NMS of all images and levels is one call.

B: images, A: anchors of an image over all levels, p: proposals of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)

from postnms.boxes import clip
from postnms.checks import check_outputs, trusted
from postnms.detectors.config import TORCHVISION_BETA, TwoStageConfig
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.parts.assignment import assign, boxes_of, sample_rows
from postnms.detectors.parts.deltas import decode, encode
from postnms.devices import constant, number_of_each
from postnms.distributed.collectives import CountedLoss, mean_over_rows
from postnms.ops import cluster_nms
from postnms.orders import top_per_image


def build_rpn(config: TwoStageConfig) -> RegionProposalNetwork:
    """Build the proposal network for a pyramid of five levels, with random weights."""
    sizes = tuple((size,) for size in config.anchor_sizes)
    anchors = AnchorGenerator(sizes, (config.aspect_ratios,) * len(sizes))
    return RegionProposalNetwork(
        anchors,
        RPNHead(config.backbone.fpn_channels, anchors.num_anchors_per_location()[0]),
        config.rpn_fg_iou_thresh,
        config.rpn_bg_iou_thresh,
        config.rpn_batch_size_per_image,
        config.rpn_positive_fraction,
        {"training": config.rpn_pre_nms_top_n_train, "testing": config.rpn_pre_nms_top_n_test},
        {"training": config.rpn_post_nms_top_n_train, "testing": config.rpn_post_nms_top_n_test},
        config.rpn_nms_thresh,
    )


def most_proposals(rpn: RegionProposalNetwork) -> int:
    """Return the largest number of proposals of an image in evaluation mode."""
    return rpn._post_nms_top_n["testing"]


def propose(
    rpn: RegionProposalNetwork,
    images: ImageBatch,
    features: dict[str, Tensor],
    truths: list[dict[str, Tensor]] | None = None,
    smooth_l1_beta: float = TORCHVISION_BETA,
) -> tuple[list[Tensor], dict[str, CountedLoss]]:
    """Return the proposals, and with ``truths`` the losses of the proposal network.

    Args:
        rpn: the proposal network.
        images: the batch.
        features: feature maps (B, channels, H, W) by name, from fine to coarse.
        truths: for each image, ``boxes`` (m, 4) and ``labels`` (m,) of its ground truth. With them,
            the limits on the number of proposals are those of training, otherwise those of
            evaluation mode.
        smooth_l1_beta: beta of the location loss.

    Returns:
        The proposals (p, 4) of each image by falling objectness, detached.
        The losses by name, empty without ``truths``.

    Raises:
        UserError: without ``truths``, if an output of the network is not finite.
    """
    mode = "testing" if truths is None else "training"
    levels = list(features.values())
    objectness, deltas = rpn.head(levels)
    anchors = images.anchors(rpn.anchor_generator, levels)
    per_level = [logits[0].numel() for logits in objectness]
    logits, deltas = concat_box_prediction_layers(objectness, deltas)
    # Half precision would round coordinates to whole pixels.
    logits = logits.float()
    deltas = deltas.float()
    if truths is None:
        outputs = {"objectness": logits, "box deltas": deltas}
        check_outputs("proposal network", outputs, features, images.pixels)
    boxes = decode(rpn.box_coder, deltas.detach(), torch.cat(anchors)).view(len(anchors), -1, 4)
    proposals = select_proposals(
        rpn, boxes, logits.detach().view(len(anchors), -1), images.sizes, per_level, mode
    )
    if truths is None:
        return proposals, {}
    return proposals, _losses(
        rpn, logits.flatten(), deltas, anchors, truths, images.generators, smooth_l1_beta
    )


def select_proposals(
    rpn: RegionProposalNetwork,
    boxes: Tensor,
    logits: Tensor,
    sizes: Sequence[tuple[int, int]],
    per_level: list[int],
    mode: str,
) -> list[Tensor]:
    """Return the best boxes of each image after NMS within each level.

    Boxes are clipped to their image. Degenerate boxes are dropped.

    Args:
        rpn: holds the limits and thresholds.
        boxes: (B, A, 4), the anchors after the move by their deltas.
        logits: (B, A), the objectness.
        sizes: (height, width) in pixels of each image.
        per_level: number of anchors of an image on each level.
        mode: ``training`` or ``testing``, which limits hold.

    Returns:
        For each image (p, 4), by falling objectness.
    """
    before = rpn._pre_nms_top_n[mode]
    after = rpn._post_nms_top_n[mode]
    # Each level has a limit of its own. Otherwise the many anchors of the finest level would crowd
    # out those of the others.
    top = [
        of_level.topk(min(before, of_level.shape[1]), dim=1).indices
        for of_level in logits.split(per_level, dim=1)
    ]
    offsets = [sum(per_level[:i]) for i in range(len(per_level))]
    rows = torch.cat([best + offset for best, offset in zip(top, offsets, strict=True)], dim=1)
    level = torch.cat([torch.full_like(best, i) for i, best in enumerate(top)], dim=1).flatten()
    image = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(rows).flatten()
    limits = constant(sizes, torch.int64, boxes.device)[image]
    boxes = clip(boxes.gather(1, rows[..., None].expand(-1, -1, 4)).flatten(0, 1), limits)
    scores = logits.gather(1, rows).flatten().sigmoid()
    large = ((boxes[:, 2:] - boxes[:, :2]) >= rpn.min_size).all(dim=1)
    kept = large & (scores >= rpn.score_thresh)
    # To take the boxes that are kept, the host would wait for a GPU. The others stay in instead,
    # without an area, so that they suppress nothing. They are sorted behind the last image.
    boxes = torch.where(kept[:, None], boxes, 0.0)
    scores = torch.where(kept, scores, 0.0)
    # One call serves all images and levels, since boxes of different groups do not suppress each
    # other.
    with trusted():
        keys, _ = cluster_nms(boxes, scores, image * len(per_level) + level, rpn.nms_thresh)
    image = torch.where(kept, image, len(sizes))[keys]
    counts = number_of_each(image, len(sizes) + 1).tolist()
    best = keys[top_per_image(scores[keys], image, len(counts), after, counts)]
    parts = boxes[best].split([min(count, after) for count in counts])
    return list(parts[: len(sizes)])


def _losses(
    rpn: RegionProposalNetwork,
    logits: Tensor,
    deltas: Tensor,
    anchors: list[Tensor],
    truths: list[dict[str, Tensor]],
    generators: Sequence[torch.Generator] | None,
    smooth_l1_beta: float,
) -> dict[str, CountedLoss]:
    """Return the losses of logits (B A,) and deltas (B A, 4) on a sample of the anchors.

    Both are sums divided by the number of sampled anchors over all processes.
    """
    matches = assign(rpn.proposal_matcher, anchors, truths)
    # 1: an object, 0: background, -1: not trained on.
    labels = [(rows + 1).clamp(-1, 1) for rows in matches]
    matched = [boxes_of(rows, truth) for rows, truth in zip(matches, truths, strict=True)]
    sampled = sample_rows(labels, rpn.fg_bg_sampler, generators)
    # The rows of a sample count within their image, those of the outputs through the batch.
    starts = [sum(len(earlier) for earlier in labels[:index]) for index in range(len(labels))]
    rows = torch.cat([sample + start for sample, start in zip(sampled, starts, strict=True)])
    label = torch.cat(labels)
    target_deltas = encode(rpn.box_coder, torch.cat(matched), torch.cat(anchors))
    positive = rows[(label[rows] >= 1).nonzero().squeeze(1)]
    objectness = F.binary_cross_entropy_with_logits(
        logits[rows], label[rows].float(), reduction="sum"
    )
    location = F.smooth_l1_loss(
        deltas[positive], target_deltas[positive], beta=smooth_l1_beta, reduction="sum"
    )
    return {
        "loss_objectness": mean_over_rows(objectness, len(rows)),
        "loss_rpn_box_reg": mean_over_rows(location, len(rows)),
    }
