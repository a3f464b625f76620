"""Proposals of a region proposal network, from the parts of torchvision's (Faster R-CNN, arXiv 1506.01497).

B: images, A: anchors of an image over all levels.
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
from postnms.detectors.config import TwoStageConfig
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.parts.assignment import assign, boxes_of, sample_rows
from postnms.distributed.collectives import divisor
from postnms.ops import cluster_nms
from postnms.structures import top_per_image

SMOOTH_L1_BETA = 1 / 9
"""Of the box losses of the network and of the heads after it, as in torchvision."""


def build_rpn(config: TwoStageConfig) -> RegionProposalNetwork:
    """The network for a pyramid of five levels, with random weights."""
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


def propose(
    rpn: RegionProposalNetwork,
    images: ImageBatch,
    features: dict[str, Tensor],
    truths: list[dict[str, Tensor]] | None = None,
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Proposals (p, 4) of each image by falling objectness, and with ``truths`` the losses of the network.

    ``truths`` also says which of the network's limits count: those of training or those of testing.
    """
    mode = "testing" if truths is None else "training"
    levels = list(features.values())
    objectness, deltas = rpn.head(levels)
    anchors = images.anchors(rpn.anchor_generator, levels)
    per_level = [logits[0].numel() for logits in objectness]
    logits, deltas = concat_box_prediction_layers(objectness, deltas)
    logits, deltas = (
        logits.float(),
        deltas.float(),
    )  # half precision would round coordinates to whole pixels
    boxes = rpn.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
    proposals = select_proposals(
        rpn, boxes, logits.detach().view(len(anchors), -1), images.sizes, per_level, mode
    )
    if truths is None:
        return proposals, {}
    return proposals, _losses(rpn, logits.flatten(), deltas, anchors, truths, images.generators)


def select_proposals(
    rpn: RegionProposalNetwork,
    boxes: Tensor,
    logits: Tensor,
    sizes: Sequence[tuple[int, int]],
    per_level: list[int],
    mode: str,
) -> list[Tensor]:
    """Best boxes of each level, NMS within image and level, best of each image. Boxes (B, A, 4), logits (B, A)."""
    before, after = rpn._pre_nms_top_n[mode], rpn._post_nms_top_n[mode]
    top = [
        part.topk(min(before, part.shape[1]), dim=1).indices
        for part in logits.split(per_level, dim=1)
    ]
    offsets = [sum(per_level[:i]) for i in range(len(per_level))]
    rows = torch.cat([level + offset for level, offset in zip(top, offsets, strict=True)], dim=1)
    level = torch.cat([torch.full_like(part, i) for i, part in enumerate(top)], dim=1).flatten()
    image = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(rows).flatten()
    limits = torch.tensor(sizes, device=boxes.device)[image]
    boxes = clip(boxes.gather(1, rows[..., None].expand(-1, -1, 4)).flatten(0, 1), limits)
    scores = logits.gather(1, rows).flatten().sigmoid()
    large = ((boxes[:, 2:] - boxes[:, :2]) >= rpn.min_size).all(dim=1)
    kept = (large & (scores >= rpn.score_thresh)).nonzero().squeeze(1)
    keys, _ = cluster_nms(
        boxes[kept], scores[kept], (image * len(per_level) + level)[kept], rpn.nms_thresh
    )
    kept = kept[keys]
    kept = kept[top_per_image(scores[kept], image[kept], len(sizes), after)]
    return list(boxes[kept].split(torch.bincount(image[kept], minlength=len(sizes)).tolist()))


def _losses(
    rpn: RegionProposalNetwork,
    logits: Tensor,
    deltas: Tensor,
    anchors: list[Tensor],
    truths: list[dict[str, Tensor]],
    generators: Sequence[torch.Generator] | None,
) -> dict[str, Tensor]:
    """Logits (B A,) and deltas (B A, 4) on a sample of the anchors; means over the sampled ones."""
    matches = assign(rpn.proposal_matcher, anchors, truths)
    labels = [
        (rows + 1).clamp(-1, 1) for rows in matches
    ]  # 1: an object, 0: none, -1: not trained on
    matched = [boxes_of(rows, truth) for rows, truth in zip(matches, truths, strict=True)]
    sampled = sample_rows(labels, rpn.fg_bg_sampler, generators)
    starts = [sum(len(part) for part in labels[:index]) for index in range(len(labels))]
    rows = torch.cat([part + start for part, start in zip(sampled, starts, strict=True)])
    label, wanted = torch.cat(labels), torch.cat(list(rpn.box_coder.encode(matched, anchors)))
    positive = rows[label[rows] >= 1]
    objectness = F.binary_cross_entropy_with_logits(
        logits[rows], label[rows].float(), reduction="sum"
    )
    location = F.smooth_l1_loss(
        deltas[positive], wanted[positive], beta=SMOOTH_L1_BETA, reduction="sum"
    )
    count = divisor(len(rows), logits.device)
    return {"loss_objectness": objectness / count, "loss_rpn_box_reg": location / count}
