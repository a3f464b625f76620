"""Proposals of a region proposal network, from the parts of torchvision's (Faster R-CNN, arXiv 1506.01497).

B: images, A: anchors of an image over all levels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from postnms.boxes import clip
from postnms.detectors.images import ImageBatch
from postnms.ops import cluster_nms
from postnms.structures import top_per_image


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
    anchors = rpn.anchor_generator(images.as_image_list(), levels)
    per_level = [logits[0].numel() for logits in objectness]
    logits, deltas = concat_box_prediction_layers(objectness, deltas)
    logits, deltas = logits.float(), deltas.float()  # half precision would round coordinates to whole pixels
    boxes = rpn.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
    proposals = select_proposals(rpn, boxes, logits.detach().view(len(anchors), -1), images.sizes, per_level, mode)
    if truths is None:
        return proposals, {}
    labels, matched = rpn.assign_targets_to_anchors(anchors, truths)
    loss_objectness, loss_box = rpn.compute_loss(logits, deltas, labels, rpn.box_coder.encode(matched, anchors))
    return proposals, {"loss_objectness": loss_objectness, "loss_rpn_box_reg": loss_box}


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
    top = [part.topk(min(before, part.shape[1]), dim=1).indices for part in logits.split(per_level, dim=1)]
    offsets = [sum(per_level[:i]) for i in range(len(per_level))]
    rows = torch.cat([level + offset for level, offset in zip(top, offsets, strict=True)], dim=1)
    level = torch.cat([torch.full_like(part, i) for i, part in enumerate(top)], dim=1).flatten()
    image = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(rows).flatten()
    limits = torch.tensor(sizes, device=boxes.device)[image]
    boxes = clip(boxes.gather(1, rows[..., None].expand(-1, -1, 4)).flatten(0, 1), limits)
    scores = logits.gather(1, rows).flatten().sigmoid()
    large = ((boxes[:, 2:] - boxes[:, :2]) >= rpn.min_size).all(dim=1)
    kept = (large & (scores >= rpn.score_thresh)).nonzero().squeeze(1)
    keys, _ = cluster_nms(boxes[kept], scores[kept], (image * len(per_level) + level)[kept], rpn.nms_thresh)
    kept = kept[keys]
    kept = kept[top_per_image(scores[kept], image[kept], len(sizes), after)]
    return list(boxes[kept].split(torch.bincount(image[kept], minlength=len(sizes)).tolist()))
