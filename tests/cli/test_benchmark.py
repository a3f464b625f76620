"""``postnms benchmark`` at sizes that take no time."""

import json

import pytest
import torch

from postnms.speed import clustering, memory, pooling, surroundings

AROUND = [
    "stage, detections",
    "stage, losses and back",
    "annotations",
    "evaluation",
    "evaluation, 3 resamples",
    "images",
]
"""What surrounds clustering, in the order in which it is timed."""


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(clustering, "GROUPED", ((40, 4),))
    monkeypatch.setattr(clustering, "ONE_CLASS", (20, 30, 60))
    monkeypatch.setattr(clustering, "QUICK_MOST", 40)
    monkeypatch.setattr(clustering, "BAD_INPUT_BOXES", 25)
    monkeypatch.setattr(
        clustering, "_version", lambda name: "1.0" if name == "torchvision" else None
    )
    monkeypatch.setattr(pooling, "SIZES", ((1, 2, 64, 3), (1, 2, 96, 3)))
    small = {"side": 64, "candidates": 20, "images": 4, "resamples": 3, "pictures": 2}
    monkeypatch.setattr(surroundings, "QUICK", surroundings.Sizes(2, **small))
    monkeypatch.setattr(surroundings, "WHOLE", surroundings.Sizes(4, **small))
    monkeypatch.setattr(surroundings, "PRODUCT", 8)
    monkeypatch.setattr(memory, "SIZES", (50, 70))
    monkeypatch.setattr(memory, "bytes_a_box", lambda count: 1.5 * count)


@pytest.mark.parametrize("quick", [False, True])
def test_it_prints_and_writes_what_it_measured(postnms, tiny, tmp_path, quick):
    before = torch.get_num_threads()
    words = (
        "--out",
        tmp_path / "b",
        "--rounds",
        2,
        "--threads",
        3,
        *(["--quick"] if quick else []),
    )
    status, shown, errors = postnms("benchmark", *words)
    assert (status, torch.get_num_threads()) == (0, before), errors
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "benchmark.json",
        "benchmark.md",
        "clustering.png",
    ]
    found = json.loads((tmp_path / "b" / "benchmark.json").read_text())
    measured = [(row["boxes"], row["groups"], row["threads"]) for row in found["clustering"]]
    one_class = (20, 30) if quick else (20, 30, 60)
    assert measured == [
        (n, g, t) for t in (1, 3) for n, g in ((40, 4), *((count, 1) for count in one_class))
    ]
    assert [
        timing["rounds"] for row in found["clustering"] for timing in row["times"].values()
    ] == [2] * 2 * len(measured)
    assert len(found["pooling"]) == (4 if quick else 8)
    around = [(work["what"], work["threads"]) for work in found["surroundings"]]
    assert around == [(what, threads) for threads in (1, 3) for what in AROUND]
    assert f"20 boxes, {2 if quick else 4} channels, 64 pixels" in shown
    assert found["memory"] == ({"50": 75.0} if quick else {"50": 75.0, "70": 105.0})
    assert (found["rounds"], found["quick"], found["bad_input_boxes"]) == (2, quick, 25)
    assert "--rounds 2" in found["command"]
    for line in (
        "powerboxes: not installed",
        "Clustering, 3 threads",
        "all identical",
        "Stage, evaluation and data",
        "matrix products",
        "Pillow alone",
        "not measured",
    ):
        assert line in shown
    assert "| 40 | 4 |" in (tmp_path / "b" / "benchmark.md").read_text()


@pytest.mark.parametrize("option", ["--rounds", "--threads"])
def test_mistakes_cost_no_measuring(postnms, tmp_path, option, monkeypatch):
    monkeypatch.setattr(clustering, "compare_clustering", lambda *_: pytest.fail("measured"))
    for value in ("0", "-1", "many"):
        status, _, shown = postnms("benchmark", "--out", tmp_path / "b", option, value)
        assert (status, option in shown) == (2, True)
    (tmp_path / "file").write_text("")
    status, _, shown = postnms("benchmark", "--out", tmp_path / "file" / "b", option, 1)
    assert (status, "postnms: " in shown) == (2, True)
    assert not (tmp_path / "b").exists()
