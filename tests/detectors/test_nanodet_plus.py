"""The adapter of NanoDet-Plus in ``benchmarks``, around a fake module of the same outputs."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from postnms import Selection, StageConfig, UserError, attach
from tests.support.builders import truths
from tests.support.scripts import load_script

adapter = load_script("benchmarks/nanodet_plus.py")
SIDE = 64
CELLS = 64 + 16 + 4 + 1  # at strides 8, 16, 32 and 64
CELL = 64 + 4 * 2 + 1
"""The cell in row 2 and column 1 of the level of stride 16. Its point is (16, 32)."""
FAR = 40.0
"""A raw weight so large that a distribution is its one value."""


class Fake(nn.Module):
    """Two classes, five distances. One cell alone scores: class 1 with 0.8."""

    def __init__(self, width=4):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.width = width
        self.logits = torch.full((CELLS, 2), -9.0)
        self.logits[CELL, 1] = math.log(0.8 / 0.2)
        self.dist = torch.zeros(CELLS, 4, 5)
        self.seen = None

    def forward(self, x):
        self.seen = x
        count = len(x)
        maps = [
            x.mean(dim=(1, 2, 3)).view(-1, 1, 1, 1).expand(count, self.width, side, side)
            for side in (8, 4, 2, 1)
        ]
        return SimpleNamespace(
            neck=maps,
            feat=[level + 1 for level in maps],
            logits=self.logits.expand(count, -1, -1) * self.scale,
            dist=self.dist.expand(count, -1, -1, -1),
        )


def build(fake=None, **settings):
    return adapter.NanoDetPlusNetwork(Fake() if fake is None else fake, side=SIDE, **settings)


def candidates(network, images, selection=Selection()):
    batch = network.prepare(images)
    return network.candidates(network.features(batch), batch, None, selection)[0]


def test_a_box_is_decoded_as_by_hand():
    fake = Fake()
    # Left is 0 or 1 with equal weight, so 0.5 strides; top 2 strides; bottom 1 stride.
    fake.dist[CELL, 0, :2] = FAR
    fake.dist[CELL, 1, 2] = FAR
    fake.dist[CELL, 2] = torch.tensor([0.0, 0.0, 0.0, math.log(3), 0.0])
    fake.dist[CELL, 3, 1] = FAR
    found = candidates(build(fake), [torch.zeros(3, 32, 128)])
    # Right: (0 + 1 + 2 + 3 * 3 + 4) / 7 strides. The point is (16, 32), the stride 16.
    expected = [16 - 8, 32 - 32, 16 + 16 * 16 / 7, 32 + 16]
    torch.testing.assert_close(found.boxes, torch.tensor([expected]))
    torch.testing.assert_close(found.scores, torch.tensor([0.8]))
    assert found.labels.tolist() == [1]
    assert found.source.tolist() == [CELL]


def test_boxes_are_clipped_and_go_back_into_the_given_image():
    fake = Fake()
    fake.dist[CELL, :, 4] = FAR  # 64 pixels to each side
    detector = attach(build(fake), None).eval()
    rows = detector([torch.zeros(3, 32, 128), torch.zeros(3, 64, 64)]).rows
    # 64 x 64 pixels of the input are the whole of each image.
    boxes = torch.tensor([[0.0, 0, 128, 32], [0, 0, 64, 64]])
    torch.testing.assert_close(rows["nms"].boxes, boxes)
    assert rows["nms"].image.tolist() == [0, 1]


def test_the_input_is_squashed_and_in_the_order_blue_green_red():
    network = build()
    image = torch.zeros(3, 20, 50)
    image[0] = 1.0  # red
    batch = network.prepare([image, (image * 255).to(torch.uint8)])
    blue, green, red = -103.53 / 57.375, -116.28 / 57.12, (255 - 123.675) / 58.395
    expected = torch.tensor([blue, green, red]).view(3, 1, 1).expand(3, SIDE, SIDE)
    for pixels in batch.pixels:
        torch.testing.assert_close(pixels, expected)
    assert batch.sizes == [(SIDE, SIDE)] * 2
    assert batch.given == [(20, 50)] * 2


def test_the_module_tells_levels_and_classes():
    network = build(Fake(width=6))
    assert network.num_classes == 2
    assert [level.stride for level in network.levels.values()] == [8, 16, 32, 64]
    assert {level.channels for level in network.levels.values()} == {6}
    assert set(network.state_dict()) == {"module.scale"}


def test_the_maps_are_those_that_are_asked_for():
    images = [torch.zeros(3, 8, 8)]
    neck, feat = (
        network.features(network.prepare(images))["stride_64"]
        for network in (build(maps="neck"), build(maps="feat"))
    )
    torch.testing.assert_close(feat, neck + 1)


def test_the_best_candidates_are_kept():
    fake = Fake()
    fake.logits[:, 0] = torch.linspace(-1, 1, CELLS)
    images = [torch.zeros(3, 8, 8)]
    assert len(candidates(build(fake), images).scores) == CELLS + 1
    best = candidates(build(fake, max_candidates=3), images)
    assert best.source.tolist() == [CELL, CELLS - 1, CELLS - 2]
    assert candidates(build(fake), images, Selection(most=2)).source.tolist() == [CELL, CELLS - 1]
    over = candidates(build(fake), images, Selection(score_threshold=0.75))
    assert over.source.tolist() == [CELL]


def test_a_frozen_detector_trains_the_stage_alone():
    torch.manual_seed(0)
    fake = Fake()
    fake.dist[CELL, :, 1] = FAR
    detector = attach(build(fake), StageConfig(width=8), frozen=True).train()
    losses = detector([torch.rand(3, 64, 64)], truths([[2.0, 18, 30, 46]], [1])).losses
    assert set(losses) == {"loss_stage_cls", "loss_stage_loc"}
    sum(losses.values()).backward()
    assert fake.scale.grad is None
    assert all(p.grad is not None for p in detector.stage.parameters())


def test_a_detector_that_is_not_frozen_is_refused():
    detector = attach(build(), StageConfig(width=8)).train()
    with pytest.raises(UserError, match="expected frozen=True"):
        detector([torch.zeros(3, 8, 8)], truths([[0.0, 0, 4, 4]], [1]))


def test_sampled_candidates_are_refused():
    with pytest.raises(UserError, match="got 'sampled'"):
        candidates(build(), [torch.zeros(3, 8, 8)], Selection(origin="sampled"))


@pytest.mark.parametrize("name", ["logits", "dist"])
def test_outputs_that_are_not_finite_are_refused(name):
    fake = Fake()
    network = build(fake)
    getattr(fake, name)[0] = math.nan
    with pytest.raises(UserError, match="expected finite logits and dist"):
        candidates(network, [torch.zeros(3, 8, 8)])


def test_a_module_of_other_outputs_is_refused():
    fake = Fake()
    fake.dist = fake.dist[:, :3]
    with pytest.raises(UserError, match=r"expected dist \(1, 85, 4, R\), got \(1, 85, 3, 5\)"):
        build(fake)
    fake.logits = fake.logits[:-1]
    with pytest.raises(UserError, match="logits for each of their cells"):
        build(fake)
    with pytest.raises(UserError, match="got no neck in Tensor"):
        build(nn.Identity())


def test_the_mode_of_the_module_stays():
    fake = Fake().train()
    build(fake)
    assert fake.training
    assert fake.seen.shape == (1, 3, SIDE, SIDE)
