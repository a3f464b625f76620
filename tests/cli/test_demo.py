"""``postnms demo`` trains, measures and draws, also where a demo has run before."""

import json

from tests.support.runs import SETS


def test_demo_draws_and_measures(postnms, tmp_path):
    status, shown, _ = postnms("demo", "--out", tmp_path, *SETS)
    assert status == 0
    assert "gain of post_nms over nms" in shown
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3
    assert sorted(json.loads((tmp_path / "metrics.json").read_text())) == [
        "best_f1",
        "classes",
        "gains",
        "nms",
        "post_nms",
    ]
    assert postnms("demo", "--out", tmp_path, *SETS)[0] == 0


def test_nothing_of_an_earlier_run_is_taken_for_the_next_ones(postnms, tmp_path):
    assert postnms("demo", "--out", tmp_path, *SETS)[0] == 0
    kept = sorted(tmp_path.rglob("*"))
    (tmp_path / ".postnms-0123.tmp").write_text("left by a kill")
    odd = (*SETS, "--set", "detector.backbone.fpn_channels=9")
    assert postnms("demo", "--out", tmp_path, *odd)[0] == 2
    assert sorted(tmp_path.rglob("*")) == kept  # A mistake costs nothing.
    status, _, shown = postnms("demo", "--out", tmp_path, *SETS, "--set", "training.lr=1e30")
    assert (status, "a loss is not finite" in shown) == (2, True)
    left = {path.name for path in tmp_path.iterdir()}
    assert not left & {
        "weights.safetensors",
        "checkpoint.safetensors",
        "metrics.json",
        ".postnms-0123.tmp",
    }
    assert not any(name.startswith("results") for name in left)
    assert not list((tmp_path / "pictures").iterdir())
