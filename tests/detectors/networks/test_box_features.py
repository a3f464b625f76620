"""The extra column ``box_features``: what the box head computes of the proposal of a candidate."""

from collections import OrderedDict

import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image

from postnms.candidate_files.dump import dump_candidates
from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.detectors import Selection
from postnms.detectors.image_batch import to_network
from postnms.errors import UserError
from postnms.structures import BOX_FEATURES, take
from tests.candidate_files.test_dump import split
from tests.support.detectors import TARGETS, TWO, build

TWO_STAGES = ("faster_rcnn", "cascade_rcnn", "cascade_rcnn_mean")


def features_by_torchvisions_parts(network, features, batch):
    """The hidden features of every proposal of each image, by torchvision's modules alone."""
    boxes, _ = network.rpn(ImageList(batch.pixels, batch.sizes), OrderedDict(features))
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    heads = list(getattr(network, "heads", None) or [network.roi_heads])
    counts = [len(part) for part in boxes]
    for head in heads[:-1]:
        hidden = head.box_head(pool(OrderedDict(features), boxes, batch.sizes))
        moved = head.box_coder.decode(head.box_predictor(hidden)[1], boxes).squeeze(1)
        boxes = [
            clip_boxes_to_image(part, size)
            for part, size in zip(moved.split(counts), batch.sizes, strict=True)
        ]
    return heads[-1].box_head(pool(OrderedDict(features), boxes, batch.sizes)).split(counts)


@pytest.mark.parametrize("name", TWO_STAGES)
@torch.no_grad()
def test_each_candidate_has_the_features_of_its_proposal(name):
    network = build(name, None).eval().network
    batch = network.prepare(TWO)
    features = network.features(batch)
    wanted = features_by_torchvisions_parts(network, features, batch)
    plain, _ = network.candidates(features, batch)
    found, _ = network.candidates(features, batch, None, Selection(features=True))
    column = found.extra[BOX_FEATURES]
    assert column.shape == (len(found.scores), 32)
    assert len(column.unique(dim=0)) > 10
    for row, image, source in zip(column, found.image.tolist(), found.source.tolist(), strict=True):
        torch.testing.assert_close(row, wanted[image][source], rtol=1e-4, atol=1e-5)
    assert plain.extra == {}
    assert torch.equal(plain.boxes, found.boxes)
    assert torch.equal(plain.scores, found.scores)


@pytest.mark.parametrize("name", TWO_STAGES)
@pytest.mark.parametrize("origin", ["proposals", "sampled"])
def test_candidates_of_training_have_them_too(name, origin):
    """Under the same limits, those of the proposals are those of the test."""
    detector = build(name, None, rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=100).eval()
    network = detector.network
    batch = network.prepare(TWO)
    features = network.features(batch)
    truth = to_network(TARGETS, batch, 3)
    trained, _ = network.candidates(features, batch, truth, Selection(origin, features=True))
    assert not trained.extra[BOX_FEATURES].requires_grad
    assert trained.extra[BOX_FEATURES].shape == (len(trained.scores), 32)
    tested, _ = network.candidates(features, batch, None, Selection(features=True))
    pairs = [
        dict(
            zip(
                zip(part.image.tolist(), part.source.tolist(), strict=True),
                part.extra[BOX_FEATURES],
                strict=True,
            )
        )
        for part in (trained, tested)
    ]
    shared = pairs[0].keys() & pairs[1].keys()
    assert len(shared) > 5
    for pair in shared:
        torch.testing.assert_close(pairs[0][pair], pairs[1][pair], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssdlite"])
def test_a_detector_without_box_heads_refuses(name):
    network = build(name, None).eval().network
    batch = network.prepare(TWO)
    with pytest.raises(UserError, match=r"^features: expected .*\(faster_rcnn, cascade_rcnn, or"):
        network.candidates(network.features(batch), batch, None, Selection(features=True))


def test_they_arrive_in_a_file_as_they_are(tmp_path):
    detector = build("faster_rcnn")
    data, path = split(tmp_path), tmp_path / "c.safetensors"
    with CandidateWriter(path, data.dataset.categories, None, {}) as writer:
        dump_candidates(detector, data, writer, 2, Selection(features=True))
    file = open_candidates(path)
    assert BOX_FEATURES in file.extra
    ((_, candidates),) = file.chunks()
    traced = detector.trace([data[i].image for i in range(2)], Selection(features=True))
    wanted = take(traced.candidates, traced.candidates.image.argsort(stable=True))
    assert torch.equal(candidates.extra[BOX_FEATURES], wanted.extra[BOX_FEATURES])
