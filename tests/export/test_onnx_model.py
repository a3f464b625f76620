"""What an exported model does with the images that it is given, without a runtime."""

import numpy as np
import pytest
from PIL import Image

from postnms.data.dataset import Category
from postnms.data.image_objects import to_image
from postnms.errors import UserError
from postnms.export.metadata import ExportMetadata
from postnms.export.onnx_model import ExportedModel

ABOUT = ExportMetadata(("nms",), (Category(7, "cat"),), (8, 16), {}, {}, (), {}, {})


@pytest.fixture
def seen():
    """The pixels that the model below was run on."""
    return []


@pytest.fixture
def model(seen):
    """A model that finds one box, whatever it sees."""

    def run(pixels):
        seen.append(pixels)
        return [np.float32([[2, 2, 6, 4]]), np.float32([0.5]), np.int64([0]), np.int64([0])]

    return ExportedModel(ABOUT, run)


VALUES = np.arange(8 * 16).reshape(8, 16)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray((VALUES * 500).astype(np.uint16)),
        Image.fromarray((VALUES / 127).astype(np.float32)),
        Image.fromarray(VALUES.astype(np.uint8)).convert("RGBA"),
        Image.fromarray(VALUES.astype(np.uint8)).convert("P"),
    ],
    ids=lambda image: image.mode,
)
def test_images_of_any_mode_are_what_the_detector_sees(model, seen, image):
    model.predict(image)
    expected = np.asarray(to_image(image, "image"))
    np.testing.assert_array_equal(seen[0][0].transpose(1, 2, 0), expected)
    assert len(np.unique(expected)) > 60


def test_boxes_are_in_pixels_of_the_image(model):
    found = model.predict(Image.new("L", (32, 16)))["nms"]
    assert found.boxes.tolist() == [[4, 4, 12, 8]]
    assert found.to_coco("a", [7]) == [
        {"image_id": "a", "category_id": 7, "bbox": [4, 4, 8, 4], "score": 0.5}
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), r"^image: expected a path or an image .*got ndarray$"),
        (Image.new("RGB", (0, 5)), r"^image: expected an image with pixels, got \(0, 5\)$"),
    ],
)
def test_what_is_no_image_is_told(model, value, message):
    with pytest.raises(UserError, match=message):
        model.predict(value)
