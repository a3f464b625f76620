"""The table of gains in ``benchmarks``."""

import pytest

from tests.support.coco import as_truth
from tests.support.scripts import load_script

gain_table = load_script("benchmarks/gain_table.py")
BOX = [0.0, 0.0, 50.0, 50.0]


def found(*image_ids):
    return [{"image_id": i, "category_id": 1, "bbox": BOX, "score": 0.5} for i in image_ids]


def test_gains_are_means_over_the_seeds(capsys):
    objects = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": BOX, "area": 2500.0, "iscrowd": 0}
        for i in (1, 2)
    ]
    images = [{"id": i, "height": 99, "width": 99, "file_name": f"{i}.png"} for i in (1, 2)]
    categories = [{"id": 1, "name": "cat"}]
    truth = as_truth({"images": images, "categories": categories, "annotations": objects})
    table = gain_table.Table("seen", truth)
    table.add("first", [found(1)])
    table.add_uses("stage", [{"moved": found(1, 2)}, {"moved": found(1)}])
    # One of two objects is found: the precision is 1 at 51 of the 101 recalls.
    half = 100 * 51 / 101
    row = table.rows["stage: moved"]
    assert table.rows["first"]["AP"] == pytest.approx(half)
    assert row["AP"] == pytest.approx((100 + half) / 2)
    assert row["of_seeds"] == pytest.approx([100 - half, 0])
    assert row["gain"] == pytest.approx((100 - half) / 2)
    # A resample has image 1 twice, image 2 twice, or both. The mean over the seeds gains 0, 50 or
    # 24.75 on them.
    assert (row["low"], row["high"]) == pytest.approx((0, 50))
    last = capsys.readouterr().out.splitlines()[-1]
    expected = "| stage: moved | 75.25 | 75.25 | 75.25 | +24.75 (+0.00 to +50.00) | +49.50, +0.00 |"
    assert last == expected
