"""The way charts are saved."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from postnms.drawing.charts import COLOURS, MARKERS, save_chart
from postnms.errors import UserError


def test_a_chart_is_a_png_of_120_dots_an_inch(tmp_path):
    path = tmp_path / "new" / "chart.png"
    save_chart(Figure(figsize=(4, 3)), path)
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (480, 360))
    assert list(path.parent.iterdir()) == [path]


def test_a_chart_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"chart\.png: could not be written"):
        save_chart(Figure(), tmp_path / "file" / "chart.png")


def test_colours_and_markers_differ():
    assert len(set(COLOURS)) == len(COLOURS)
    assert len(set(MARKERS)) == len(MARKERS)
