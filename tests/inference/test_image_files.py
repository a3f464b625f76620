"""Pictures of a user's images get names of their own, and never replace an image."""

import pytest
from PIL import Image

from postnms.errors import UserError
from postnms.inference.image_files import predict_files
from postnms.runs.folder import RunFolder, read_categories
from postnms.runs.loading import load_detector
from tests.support.runs import tiny


@pytest.fixture
def predict(trained_run, tmp_path):
    """Predict for images of the given names; return counts, messages and the written files."""
    folder = RunFolder(trained_run)

    def call(*names, out="out"):
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), "green").save(path)
        counts, unread = predict_files(
            load_detector(folder),
            tiny().detector.input_size,
            read_categories(folder),
            paths,
            tmp_path / out,
            both=False,
            min_score=0.3,
        )
        return counts, unread, {path.name for path in (tmp_path / out).glob("*.png")}

    return call


def test_pictures_are_named_as_their_images(predict):
    counts, unread, written = predict("a.png", "b.jpg")
    assert (list(counts), unread) == (["nms", "post_nms"], [])
    assert written == {"a.png", "b.png"}


def test_images_of_one_name_are_numbered(predict):
    assert predict("a.png", "deep/A.jpg", "b.jpg")[2] == {"1_a.png", "2_A.png", "3_b.png"}


def test_an_image_is_not_overwritten(predict):
    with pytest.raises(UserError, match=r"^out: .*: a\.png would overwrite an input"):
        predict("a.png", out=".")
