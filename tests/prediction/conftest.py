"""A model that is cheap to run and whose scores and boxes differ from image to image."""

import pytest

from postnms import Model
from tests.support.detectors import build


@pytest.fixture(scope="session")
def model():
    """Faster R-CNN with the stage, of three classes."""
    detector = build("faster_rcnn")
    return Model(detector, ["cat", "dog", "bird"], input_size=(96, 160))
