"""The charts of a report: their ticks, their labels, and what lies beyond the axis."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from postnms.analysis.oracle import ORACLE
from postnms.evaluation.calibration import Calibration
from postnms.report.charts import dots, lines, scatter, svg

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("1")</script>'


def parsed(markup):
    """Parse a drawing, which must be well-formed."""
    return ElementTree.fromstring(
        markup.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    )


def texts(drawing, kind=""):
    found = drawing.iter(SVG + "text")
    return [text.text for text in found if kind in text.get("class", "")]


def point(name, ap, milliseconds=1.0, kind="other"):
    return scatter.Point(name, ap, milliseconds, kind, ":" in name)


@pytest.mark.parametrize("width", [svg.FULL, svg.NARROW])
def test_labels_of_points_do_not_cover_each_other(width):
    random = np.random.default_rng(0)
    points = [
        point(f"suppressor_{i}", 75 + random.normal(), 0.3 + random.random()) for i in range(25)
    ]
    drawing = parsed(
        scatter.ap_against_time([*points, point("nms", 75, kind="baseline")], "nms", width)
    )
    boxes = []
    for text in drawing.iter(SVG + "text"):
        if "label" in text.get("class", ""):
            left, base = float(text.get("x")), float(text.get("y"))
            boxes.append((left, base - 9, left + len(text.text) * svg.CHARACTER, base + 2))
    assert len(boxes) >= 15
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    circles = drawing.findall(f".//{SVG}circle")
    assert len(circles) == 26


def test_what_the_axis_leaves_out_stands_in_the_margin():
    points = [
        point("nms", 75.0, kind="baseline"), point("a", 76.0), point("none", 20.0),
        point(ORACLE, 92.0, None, "oracle"),
    ]  # fmt: skip
    drawing = parsed(scatter.ap_against_time(points, "nms", svg.FULL))
    assert texts(drawing, "margin") == ["▲ oracle_box: AP 92.0", "▼ none: AP 20.0, 1 ms"]
    assert {"nms", "a"} <= set(texts(drawing, "label"))
    heights = [float(c.get("cy")) for c in drawing.iter(SVG + "circle")]
    assert heights[0] != heights[1]
    assert all(0 < height < float(drawing.get("height")) for height in heights)


def test_rows_without_times_give_no_chart():
    assert scatter.ap_against_time([point("nms", 75.0, None)], "nms", svg.FULL) == ""
    assert scatter.ap_against_time([], "nms", svg.FULL) == ""


def test_names_are_escaped_in_every_chart():
    points = [point("nms", 75.0, kind="baseline"), point(HOSTILE, 76.0), point(HOSTILE + "2", 1.0)]
    calibration = Calibration(0.1, (3,) + (0,) * 9, (0.05,) + (None,) * 9, (0.5,) + (None,) * 9)
    drawings = [
        scatter.ap_against_time(points, "nms", svg.FULL),
        dots.dot_chart(
            [dots.DotRow(HOSTILE, [1.0, None], [HOSTILE, ""])], [HOSTILE, "b"], HOSTILE, 350
        ),
        lines.precision_over_recall({HOSTILE: np.full((2, 101), 0.5)}, 0, HOSTILE, 350),
        lines.reliability({HOSTILE: calibration}, 350),
    ]
    for drawing in drawings:
        assert "<script" not in drawing
        assert any(HOSTILE in (e.text or "") for e in parsed(drawing).iter())


def test_series_differ_in_form_as_well_as_in_colour():
    forms = {re.sub(r"c\d", "", dots.marker(9, 9, number)) for number in range(4)}
    assert len(forms) == 4
    assert len(set(svg.DASHES)) == svg.SERIES


def test_nothing_to_draw_is_drawn():
    nan = np.full((2, 101), np.nan)
    for drawing in (
        dots.dot_chart([], ["a"], "AP", 350),
        dots.dot_chart([dots.DotRow("x", [None], [""])], ["a"], "AP", 350),
        lines.precision_over_recall({"a": nan}, 0, "AP50", 350),
        lines.reliability({}, 350),
    ):
        assert parsed(drawing).tag == SVG + "svg"
        assert "nan" not in drawing


def test_intervals_are_coloured_by_what_they_say():
    assert "gain better" in dots.interval(1.0, 0.5, 1.5, (-2, 2))
    assert "gain worse" in dots.interval(-1.0, -1.5, -0.5, (-2, 2))
    assert "gain unsure" in dots.interval(0.1, -0.5, 0.7, (-2, 2))
    assert "gain unsure" in dots.interval(0.1, None, None, (-2, 2))
    assert dots.interval(None, None, None, (-2, 2)) == ""
    assert dots.shared_bounds({"a": (1.0, 0.5, 2.0), "b": (-50.0, None, None)}) == (-6.0, 2.0)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (71.3, 78.2), (0.001, 0.002), (5, 5), (-3, 2000)]
)
def test_ticks_lie_between_their_bounds(low, high):
    values = svg.ticks(low, high)
    assert 1 <= len(values) <= 8
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)


def test_long_names_are_cut_in_their_middle():
    assert svg.shorten("abc", 100) == "abc"
    short = svg.shorten("a" * 30 + "z" * 30, 100)
    assert len(short) <= 100 / svg.CHARACTER
    assert short.startswith("a")
    assert short.endswith("z")
