"""The stage in graphs without gradients: one graph, with the results that it has outside of it."""

import pytest
import torch

from postnms.clustering import cluster
from postnms.stage import PostNMSStage, StageConfig
from postnms.structures import Level
from tests.support.builders import random_candidates
from tests.support.stages import SIZES, build, features

COLUMNS = ("boxes", "scores", "labels", "image", "source")


@pytest.fixture(autouse=True)
def _in_inference():
    """Masks in a graph need this setting in some releases of torch."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True), torch.no_grad():
        yield


def candidates(count, seed=0):
    """Candidates within the images of ``SIZES``."""
    return random_candidates(count, 2, 2, side=45.0, seed=seed)


def compiled(function, backend="eager"):
    return torch.compile(function, fullgraph=True, dynamic=True, backend=backend)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"decoupling": False, "encoding": "concat", "representative": "vote"},
    ],
    ids=["default", "no layer"],
)
def test_candidates_to_detections_is_one_graph(settings):
    stage, levels = build(**settings).eval(), features()

    def whole(levels, found):
        return stage.detect(levels, SIZES, cluster(found), 7)

    graph = compiled(whole)
    for count in (30, 0):
        found, expected = graph(levels, candidates(count)), whole(levels, candidates(count))
        assert len(expected.scores) > 7 or not count
        for name in COLUMNS:
            assert torch.equal(getattr(found, name), getattr(expected, name))


def test_suppression_on_moved_boxes_is_in_the_graph():
    fewer = {"shared_trunk": True, "representative_rows": False}
    stage = build(suppressor="soft_nms_linear", thinning_iou=0.8, **fewer).eval()

    def whole(levels, found):
        return stage.rows(levels, SIZES, cluster(found), 7)

    graph = compiled(whole)
    for count in (30, 0):
        found, expected = (run(features(), candidates(count)) for run in (graph, whole))
        assert list(found) == list(expected)
        for row, other in zip(found.values(), expected.values(), strict=True):
            assert all(torch.equal(getattr(row, name), getattr(other, name)) for name in COLUMNS)


def test_the_networks_of_the_stage_compile_into_one_graph():
    """With ``aot_eager`` the strides of each result have to be those that the graph expects."""
    stage, levels = build().eval(), features()
    graph = compiled(stage, "aot_eager")
    for count in (1000, 5):
        found = candidates(count)
        rows = (levels, found.boxes, found.image, found.labels)
        assert all(torch.equal(*pair) for pair in zip(graph(*rows), stage(*rows), strict=True))


def test_levels_of_unequal_channels_and_bfloat16():
    levels = {"0": Level(8, 4), "1": Level(6, 8)}
    stage = PostNMSStage(StageConfig(width=16), levels, 2).eval()
    maps = features()
    maps["1"] = maps["1"][:, :6].contiguous()
    found = candidates(20)
    rows = (found.boxes, found.image, found.labels)
    assert_same = torch.testing.assert_close
    assert_same(compiled(stage)(maps, *rows), stage(maps, *rows), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        expected = stage(maps, *rows)
        assert_same(compiled(stage, "aot_eager")(maps, *rows), expected, rtol=0, atol=0)


def test_a_graph_names_a_network_that_has_diverged():
    stage = build().eval()
    torch.nn.init.constant_(stage.heads.objectness.bias, float("nan"))
    clusters = cluster(candidates(10))
    with pytest.raises(RuntimeError, match="stage: objectness: outputs are NaN or infinite"):
        compiled(stage.detect)(features(), SIZES, clusters, 7)


def test_registrations_are_sound():
    levels, found = list(features().values())[:2], candidates(20)
    rows, strides = (found.boxes, found.image), [4, 8]
    pooling = levels, *rows, [4.0, 8.0], 7, 2
    torch.library.opcheck(torch.ops.postnms.pool_pyramid.default, pooling)
    layers = [torch.randn(5, 8, 3, 3)], [torch.randn(5)]
    for count in (20, 10**6):  # At the boxes alone, and on whole levels.
        given = (levels, *rows, strides, 7, count, *layers)
        torch.library.opcheck(torch.ops.postnms.pool_decoupled.default, given)
