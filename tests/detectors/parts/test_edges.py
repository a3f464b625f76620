"""Boxes coded by their edges, and the KL loss, by hand and against the normal distribution."""

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from postnms.detectors.parts.box_head import HeadSample, Predictions, head_losses
from postnms.detectors.parts.deltas import decode, encode
from postnms.detectors.parts.edges import (
    DELTA_LOG_VARIANCE,
    EdgeCoder,
    EdgePredictor,
    kl_losses,
    pixel_log_variance,
)
from postnms.distributed.collectives import settle
from postnms.structures import Candidates, rescale

BOX = torch.tensor([[10.0, 20, 30, 60]])  # 20 wide, 40 high
TRUTH = torch.tensor([[12.0, 16, 29, 80]])
LOG2 = math.log(2)


def random_boxes(count, seed):
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * 100
    first, second = corners.sort(dim=1).values.unbind(1)
    return torch.cat([first, second + 1], dim=1)


@pytest.mark.parametrize("weight", [1.0, 10.0, 30.0])
def test_deltas_are_the_distances_of_the_edges_over_the_sides(weight):
    coder = EdgeCoder(weight)
    deltas = encode(coder, TRUTH, BOX)
    expected = torch.tensor([[2 / 20, -4 / 40, -1 / 20, 20 / 40]]) * weight
    torch.testing.assert_close(deltas, expected)
    torch.testing.assert_close(decode(coder, deltas, BOX), TRUTH)


def test_any_box_comes_back_and_several_sets_are_decoded_together():
    boxes, truths = random_boxes(50, seed=0), random_boxes(50, seed=1)
    coder = EdgeCoder()
    deltas = coder.encode_single(truths, boxes)
    torch.testing.assert_close(coder.decode_single(deltas, boxes), truths, rtol=1e-4, atol=1e-3)
    two = coder.decode_single(torch.cat([deltas, torch.zeros_like(deltas)], dim=1), boxes)
    torch.testing.assert_close(two, torch.cat([truths, boxes], dim=1), rtol=1e-4, atol=1e-3)


def test_edges_that_would_cross_meet_instead():
    deltas = torch.tensor([[15.0, 0, -10, 0], [0, 20, 0, 5]])
    moved = EdgeCoder().decode_single(deltas, BOX.expand(2, 4))
    assert moved.tolist() == [[40, 20, 40, 60], [10, 100, 30, 100]]


@pytest.mark.parametrize(
    ("error", "log_variance", "loss", "by_delta", "by_log_variance"),
    [
        (0.5, 0.0, 0.125, 0.5, -0.125 + 0.5),
        (-0.5, 2 * LOG2, 0.125 / 4 + LOG2, -0.5 / 4, -0.125 / 4 + 0.5),
        (1.0, -LOG2, 0.5 * 2 - LOG2 / 2, 2.0, -1.0 + 0.5),
        (3.0, 0.0, 2.5, 1.0, -2.5 + 0.5),
        (-3.0, 2 * LOG2, 2.5 / 4 + LOG2, -0.25, -2.5 / 4 + 0.5),
    ],
)
def test_values_and_gradients_by_hand(error, log_variance, loss, by_delta, by_log_variance):
    delta = torch.tensor([1.0 + error], requires_grad=True)
    logarithm = torch.tensor([log_variance], requires_grad=True)
    found = kl_losses(delta, torch.tensor([1.0]), logarithm)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert delta.grad.item() == pytest.approx(by_delta)
    assert logarithm.grad.item() == pytest.approx(by_log_variance)


def test_small_errors_cost_what_the_normal_distribution_says():
    random = torch.Generator().manual_seed(0)
    errors = torch.rand(200, generator=random) * 2 - 1
    log_variance = torch.randn(200, generator=random) * 2
    normal = torch.distributions.Normal(0.0, torch.exp(log_variance / 2))
    expected = -normal.log_prob(errors) - math.log(2 * math.pi) / 2
    found = kl_losses(errors, torch.zeros(200), log_variance)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_best_variance_of_some_errors_is_their_mean_square():
    errors = torch.tensor([0.1, -0.2, 0.4, -0.3])
    best = (errors**2).mean().log().requires_grad_()
    kl_losses(errors, torch.zeros(4), best.expand(4)).mean().backward()
    assert best.grad.item() == pytest.approx(0, abs=1e-6)


def test_gradients_are_those_of_differences():
    delta = torch.tensor([0.3, -0.7, 2.0, -5.0], dtype=torch.float64, requires_grad=True)
    log_variance = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    target = torch.zeros(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d, a: kl_losses(d, target, a), (delta, log_variance))


@pytest.mark.parametrize("shared", [False, True], ids=["per class", "for all classes"])
def test_a_head_takes_the_variance_of_the_label_and_divides_by_all_boxes(shared):
    boxes = [torch.zeros(3, 4)]
    targets = torch.tensor([[0.1, 0.0, 0.0, 0.0], [9.0] * 4, [0.0] * 4])
    sample = HeadSample(
        boxes, [torch.arange(3)], [torch.tensor([2, 0, 1])], [targets], [torch.tensor([0, -1, 1])]
    )
    deltas, variance = torch.zeros(3, 3, 4), torch.full((3, 3, 4), 99.0)
    deltas[0, 2] = torch.tensor([0.6, 2.0, 0.0, 0.0])
    variance[0, 2] = torch.tensor([2 * LOG2, 0.0, -LOG2, 0.0])
    variance[2, 1] = 0.0
    # exp(-a) 0.5^2 / 2 + a / 2, then 2 - 0.5, then the logarithms alone.
    expected = 0.125 / 4 + LOG2 + 1.5 - LOG2 / 2
    if shared:
        deltas, variance = deltas[:, 2], variance[torch.arange(3), [2, 0, 1]][:, None]
    else:
        deltas = deltas.flatten(1)
    extra = {DELTA_LOG_VARIANCE: variance}
    predictions = Predictions(boxes, None, torch.zeros(3, 3), deltas, extra)
    losses = settle(
        dict(zip("ab", head_losses(predictions, sample, 5.0), strict=True)), torch.device("cpu")
    )
    assert losses["a"].item() == pytest.approx(math.log(3))
    assert losses["b"].item() == pytest.approx(expected / 3)


def test_variances_in_pixels_by_hand():
    log_variance = torch.tensor([[0.0, 1.0, -1.0, 2.0]])
    found = pixel_log_variance(EdgeCoder(10.0), log_variance, BOX)
    # One unit of a delta is 2 pixels along x and 4 pixels along y.
    expected = [2 * LOG2, 1 + 4 * LOG2, -1 + 2 * LOG2, 2 + 4 * LOG2]
    torch.testing.assert_close(found, torch.tensor([expected]))
    with pytest.raises(TypeError, match="coder: expected an EdgeCoder, got BoxCoder"):
        pixel_log_variance(BoxCoder((10.0, 10.0, 5.0, 5.0)), log_variance, BOX)


def test_an_image_of_twice_the_size_gives_what_rescaling_gives():
    boxes = random_boxes(20, seed=2)
    log_variance = torch.randn(20, 4, generator=torch.Generator().manual_seed(3))
    zeros = torch.zeros(20, dtype=torch.int64)
    coder = EdgeCoder()
    column = pixel_log_variance(coder, log_variance, boxes)
    extra = {"edge_log_variance": column}
    once = Candidates(boxes, torch.rand(20), zeros, zeros, torch.arange(20), 1, extra)
    twice = rescale(once, torch.tensor([[2.0, 2.0]])).extra["edge_log_variance"]
    torch.testing.assert_close(pixel_log_variance(coder, log_variance, 2 * boxes), twice)
    # A standard deviation in pixels is twice as large.
    torch.testing.assert_close(torch.exp(twice / 2), 2 * torch.exp(column / 2))


def test_a_new_predictor_is_equally_sure_of_all_edges():
    torch.manual_seed(0)
    predictor = EdgePredictor(64, 4, 4, has_variance=True)
    assert predictor.bbox_pred_std.weight.std().item() == pytest.approx(1e-4, rel=0.1)
    assert predictor.bbox_pred_std.bias.abs().max() == 0
    logits, deltas, extra = predictor(torch.rand(5, 64))
    assert (logits.shape, deltas.shape) == ((5, 4), (5, 16))
    assert extra[DELTA_LOG_VARIANCE].shape == (5, 4, 4)
    assert extra[DELTA_LOG_VARIANCE].abs().max() < 0.01
    assert EdgePredictor(64, 4, 1, has_variance=False)(torch.rand(5, 64))[2] == {}
