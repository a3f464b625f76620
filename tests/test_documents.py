"""What the pages under docs/ say runs as it stands."""

import re
from pathlib import Path

import torch

PAGE = Path(__file__).parent.parent / "docs" / "your_detector.md"


def test_the_example_detector_learns_with_the_stage_on_it():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    losses, rows = names["losses"], names["rows"]
    assert set(losses) == {
        "loss_classification",
        "loss_location",
        "loss_stage_cls",
        "loss_stage_loc",
    }
    untrained = names["attach"](names["TinyDetector"](num_classes=2))(
        names["images"], names["targets"]
    ).losses
    assert losses["loss_classification"] < 0.75 * untrained["loss_classification"]
    assert losses["loss_location"] < 0.75 * untrained["loss_location"]
    assert losses["loss_stage_cls"] > 0
    assert list(rows) == ["nms", "post_nms"]
    best = rows["nms"].boxes[0]
    assert torch.isfinite(best).all()
