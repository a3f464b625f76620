"""Images in memory are read as 8-bit RGB, or refused with what to do."""

import numpy as np
import pytest
import torch
from PIL import Image

from postnms.data.image_objects import to_image
from postnms.errors import UserError

PIXELS = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3) * 8
GREY = PIXELS[:, :, 0]


def grey_of(values):
    return np.repeat(values[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PIXELS, PIXELS),
        (PIXELS[:, ::-1], PIXELS[:, ::-1]),
        (PIXELS.astype(np.float64) / 255, PIXELS),
        (PIXELS.astype(np.float32) / 255, PIXELS),
        (GREY, grey_of(GREY)),
        (GREY[:, :, None], grey_of(GREY)),
        (Image.fromarray(PIXELS), PIXELS),
        (Image.fromarray(GREY), grey_of(GREY)),
        (Image.fromarray(PIXELS).convert("RGBA"), PIXELS),
        (Image.fromarray(GREY.astype(np.uint16) * 257), grey_of(GREY)),
        (torch.from_numpy(PIXELS).permute(2, 0, 1), PIXELS),
        (torch.from_numpy(PIXELS).permute(2, 0, 1) / 255, PIXELS),
        ((torch.from_numpy(PIXELS).permute(2, 0, 1) / 255).requires_grad_(), PIXELS),
        (torch.from_numpy(GREY), grey_of(GREY)),
        (torch.from_numpy(GREY)[None], grey_of(GREY)),
    ],
)
def test_the_same_pixels_give_the_same_image(value, expected):
    image = to_image(value, "image")
    assert (image.mode, image.size) == ("RGB", (5, 2))
    assert np.array_equal(np.asarray(image), expected)


def test_half_precision_is_rounded_to_the_nearest_8_bits():
    value = torch.tensor([[0.0, 0.25, 1.0]], dtype=torch.bfloat16)
    assert np.asarray(to_image(value, "image"))[0, :, 0].tolist() == [0, 64, 255]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((3, 2, 2), 200.0), "got 200 to 200; divide by 255, or give uint8"),
        (np.full((2, 2, 3), 1.5), "got 1.5 to 1.5; divide by 255"),
        (np.full((2, 2, 3), 300.0), "got 300 to 300$"),
        (torch.full((3, 2, 2), -0.5), "give the image as it was before it was normalised"),
        (torch.full((3, 2, 2), torch.nan), "expected finite pixels, got NaN"),
        (np.full((2, 2), np.inf), "expected finite pixels"),
        (np.zeros((2, 2, 3), np.int64), "expected uint8 or float in .0, 1., got int64"),
        (torch.zeros(3, 2, 2, dtype=torch.bool), "got bool"),
        (np.zeros((3, 8, 9), np.uint8), r"got \(3, 8, 9\); image.transpose\(1, 2, 0\)"),
        (torch.zeros(8, 9, 3), r"got \(8, 9, 3\); image.permute\(2, 0, 1\)"),
        (np.zeros((8, 9, 4), np.uint8), "drops the alpha channel"),
        (torch.zeros(4, 8, 9), "drops the alpha channel"),
        (np.zeros((0, 9, 3), np.uint8), r"got \(0, 9, 3\)"),
        (7, "expected an image of Pillow, an array or a tensor, got int"),
    ],
)
def test_what_is_no_image_is_refused(value, message):
    with pytest.raises(UserError, match="^image: .*" + message):
        to_image(value, "image")
