"""Every detector starts from weights of other classes, all but the layers of its classes."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from postnms import from_torchvision
from postnms.detectors import build_detector
from postnms.errors import UserError
from postnms.files.fitting_weights import load_fitting_weights
from postnms.files.state_dicts import load_weights
from tests.support.detectors import CONFIGS, fcos, torchvisions

PREDICTOR = ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred")
LOGITS = ("head.classification_head.cls_logits",)
CLASS_LAYERS = {
    "faster_rcnn": PREDICTOR,
    "cascade_rcnn": tuple(f"heads.{number}.box_predictor.cls_score" for number in range(3)),
    "retinanet": LOGITS,
    "fasterrcnn_mobilenet_v3_large_320_fpn": PREDICTOR,
    "torchvision_retinanet": LOGITS,
    "fcos": LOGITS,
    "ssd": tuple(f"head.classification_head.module_list.{n}" for n in range(2)),
    "ssdlite320_mobilenet_v3_large": tuple(
        f"head.classification_head.module_list.{n}.1" for n in range(6)
    ),
}
"""The layers whose size depends on the number of classes, of every kind of detector."""
BACKGROUND = {"retinanet": 0, "torchvision_retinanet": 0, "fcos": 0}
"""Outputs of the classifier for the background: 1 where nothing else is said."""


class TwoMaps(nn.Module):
    """A backbone of two feature maps, of strides 8 and 16."""

    out_channels = (4, 6)

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 8, stride=8), nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, pixels):
        fine = self.fine(pixels)
        return {"0": fine, "1": self.coarse(fine)}


def network_of(name, classes, seed):
    torch.manual_seed(seed)
    if name in CONFIGS:
        return build_detector(CONFIGS[name], None, classes).network
    outputs = classes + BACKGROUND.get(name, 1)
    if name in ("fcos", "torchvision_retinanet"):
        kind = FCOS if name == "fcos" else RetinaNet
        model = kind(fcos().backbone, num_classes=outputs)
    elif name == "ssd":
        model = SSD(TwoMaps(), DefaultBoxGenerator([[2], [2, 3]]), (64, 64), outputs)
    else:
        model = torchvisions(name, num_classes=outputs)
    return from_torchvision(model, None).network


@pytest.mark.parametrize("name", CLASS_LAYERS)
def test_a_detector_starts_from_weights_of_other_classes(name):
    source = network_of(name, 7, seed=0)
    network = network_of(name, 3, seed=1)
    state = source.state_dict()
    before = {part: value.clone() for part, value in network.state_dict().items()}
    background = BACKGROUND.get(name, 1)
    with pytest.raises(UserError, match=r"the weights do not fit the model: .* has shape"):
        load_weights(network, state, "file")
    network.load_state_dict(before)
    layers, count = network.class_layers, network.classes.count
    note = load_fitting_weights(network, state, "file", layers, count)
    sizes = f"({7 + background} -> {3 + background} outputs)"
    assert note == f"renewed: {', '.join(network.class_layers)} {sizes}"
    resized = {part for part in before if before[part].shape != state[part].shape}
    assert {part.rpartition(".")[0] for part in resized} == set(CLASS_LAYERS[name])
    for part, value in network.state_dict().items():
        assert torch.equal(value, before[part] if part in resized else state[part]), part
