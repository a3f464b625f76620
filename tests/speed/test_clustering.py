"""Scenes, peers and targets of the benchmark of clustering, and what of it is left out."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from postnms.ops import cluster_nms
from postnms.speed import clustering
from postnms.speed.clustering import (
    OURS,
    bad_inputs,
    compare_clustering,
    disjoint,
    expected,
    growth,
    libraries,
    sizes,
    synthetic_scene,
    targets,
    time_bad_inputs,
    timed_calls,
)
from postnms.speed.timing import Timing
from tests.support.speed import row


def test_a_scene_is_the_same_each_time_and_another_by_seed():
    for one, other in zip(synthetic_scene(300, 7), synthetic_scene(300, 7), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(synthetic_scene(300, 7, seed=1)[0], synthetic_scene(300, 7)[0])
    assert synthetic_scene(300, 7)[2].unique().tolist() == list(range(7))


def test_scenes_are_as_dense_at_any_size():
    for count in (1000, 4000, 16_000):
        boxes, scores, group = synthetic_scene(count, 1)
        low, high = boxes[:, :2].amin(0), boxes[:, 2:].amax(0)
        assert float((high - low).prod()) / count == pytest.approx(900, rel=0.3)
        assert len(cluster_nms(boxes, scores, group)[0]) / count == pytest.approx(0.2, rel=0.1)


def stand_in(name, monkeypatch):
    """A peer that is called as the real one is; its keys come from the reference."""

    def nms(boxes, scores, iou, least, class_ids=None):
        assert scores.dtype == "float64"
        assert least == 0.0
        group = None if class_ids is None else torch.from_numpy(class_ids)
        return cluster_nms(
            torch.from_numpy(boxes), torch.from_numpy(scores), group, iou, backend="reference"
        )[0]

    monkeypatch.setitem(sys.modules, name, SimpleNamespace(nms=nms, rtree_nms=nms))


@pytest.mark.parametrize("groups", [1, 5])
def test_peers_keep_what_we_keep(groups, monkeypatch):
    monkeypatch.setattr(
        clustering, "libraries", lambda: {"torchvision": "1", "powerboxes": "1", "lsnms": "1"}
    )
    stand_in("powerboxes", monkeypatch)
    stand_in("lsnms", monkeypatch)
    found = {
        name: torch.as_tensor(call()).tolist()
        for name, call in timed_calls(synthetic_scene(400, groups)).items()
    }
    assert list(found) == [OURS, "torchvision", "powerboxes nms", "powerboxes rtree_nms", "lsnms"]
    assert 20 < len(found[OURS]) < 200
    assert all(keys == found[OURS] for keys in found.values()), found


def test_what_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(
        clustering, "_version", lambda name: "1.2" if name == "torchvision" else None
    )
    assert libraries() == {"torchvision": "1.2", "powerboxes": None, "lsnms": None}
    assert list(timed_calls(synthetic_scene(10, 1))) == [OURS, "torchvision"]
    monkeypatch.undo()
    assert clustering._version("no-such-package") is None


def test_comparison_leaves_out_what_would_take_too_long(monkeypatch):
    peers = {OURS: lambda: None, "slow": lambda: None}
    monkeypatch.setattr(clustering, "timed_calls", lambda of: peers)
    spent = {OURS: Timing(20_000, 1), "slow": Timing(20_000, 1)}
    monkeypatch.setattr(
        clustering, "measure", lambda sides, rounds, budget: {name: spent[name] for name in sides}
    )
    rows = compare_clustering([(5, 2), (10, 1), (20, 1), (30, 1)], rounds=1, threads=1)
    assert [sorted(found.times) for found in rows] == [
        [OURS, "slow"],
        [OURS, "slow"],
        [OURS],
        [OURS],
    ]
    assert [(found.boxes, found.groups) for found in rows] == [(5, 2), (10, 1), (20, 1), (30, 1)]


def test_what_a_size_would_take():
    assert expected([], 100) == 0
    assert expected([(10, Timing(3, 1))], 100) == pytest.approx(300)
    grown = [(10, Timing(3, 1)), (100, Timing(3 * 10**1.5, 1))]
    assert expected(grown, 1000) == pytest.approx(3000)
    assert expected([(10, Timing(3, 1)), (100, Timing(3, 1))], 1000) == pytest.approx(30)
    assert expected([(10, Timing(3, 1)), (100, Timing(3000, 1))], 1000) == pytest.approx(300_000)
    near = [grown[0], (50, Timing(90, 1)), grown[1]]
    assert expected(near, 1000) == pytest.approx(3000)
    assert expected(near[1:], 1000) == pytest.approx(3 * 10**3.5)
    assert expected([*grown, (1000, None)], 10_000) == math.inf


def test_growth_is_from_ten_thousand_boxes_of_one_class_on():
    rows = [
        row(1000, postnms=9),
        row(10_000, postnms=2),
        row(100_000, postnms=40),
        row(1_000_000, postnms=200),
    ]
    other = [row(1_000_000, groups=2, postnms=9999), row(1_000_000, threads=2, postnms=9999)]
    assert growth([*rows, *other], OURS) == (1_000_000, pytest.approx(1.0))
    assert growth(rows[:3], OURS) == (100_000, pytest.approx(math.log10(20)))
    assert growth(rows[:2], OURS) is None
    assert growth(rows, "torchvision") is None


def test_targets_are_met_or_not_or_not_measured():
    rows = [
        row(1000, groups=80, postnms=1, torchvision=3),
        row(4000, groups=320, postnms=1, torchvision=2.9),
        row(4000, groups=320, threads=2, postnms=1, torchvision=99),
        row(10_000, postnms=1),
        row(20_000, postnms=1, torchvision=10.5),
        row(50_000, postnms=1, torchvision=49),
        row(100_000, postnms=10),
    ]
    assert [target.met for target in targets(rows)] == [True, False, True, False, None, None]
    for spent, met in ((199, True), (201, False)):
        last = targets([*rows, row(1_000_000, postnms=spent)])[-1]
        assert (last.met, last.at_most) == (met, True)
        assert last.wanted == 1.15
    assert targets([*rows, row(1_000_000, postnms=199)])[-1].found == pytest.approx(
        math.log10(199) / 2
    )


def test_quick_leaves_out_large_sizes():
    assert max(count for count, _ in sizes(quick=False)) == 1_000_000
    assert sizes(quick=True)[-1] == (20_000, 1)
    assert set(sizes(quick=True)) < set(sizes(quick=False))
    assert {(1000, 80), (4000, 320), (20_000, 80)} < set(sizes(quick=True))


def test_disjoint_boxes_are_all_keys():
    assert len(cluster_nms(*disjoint(500), iou_threshold=0.0)[0]) == 500


def test_bad_inputs_are_what_they_are_called():
    count = 400
    found = {name: cluster_nms(*of)[0] for name, of in bad_inputs(count).items()}
    kept = {name: len(keys) for name, keys in found.items()}
    ordinary = kept.pop("an ordinary scene, to compare")
    assert kept["all identical"] == 1
    assert kept["all disjoint"] == kept["each a group of its own"] == kept["zero width"] == count
    scaled = [kept["coordinates up to 1e-3"], kept["coordinates up to 1e7"]]
    assert all(abs(number - ordinary) < 5 for number in scaled)
    for name, largest in (
        ("coordinates up to 1e-3", 1e-3),
        ("half up to 1e-3, half up to 1e7", 1e7),
    ):
        assert float(bad_inputs(count)[name][0].abs().max()) == pytest.approx(largest)
    times = time_bad_inputs(1, 50)
    assert list(times) == list(found)
    assert all(timing.rounds == 1 for timing in times.values())
