"""Charts of comparisons and analyses, as far as a test can see them."""

import dataclasses

import numpy as np
import pytest
import torch

from postnms.analysis import comparison_chart, plots
from postnms.analysis.comparison import ComparedRow
from postnms.analysis.diagnosis import AnalysedRow, Analysis
from postnms.analysis.placement import ClusterIoUs
from postnms.evaluation.average_precision import RECALLS
from postnms.evaluation.calibration import Calibration
from postnms.evaluation.curves import Curves
from postnms.evaluation.duplicates import DuplicateCounts
from postnms.evaluation.metrics import FIGURES
from postnms.evaluation.results import BestF1
from postnms.evaluation.tide import ERROR_TYPES, ErrorTypes


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figures that are saved, and return their list."""
    figures = []
    save = plots.save_chart

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)

    for module in (plots, comparison_chart):
        monkeypatch.setattr(module, "save_chart", keep)
    return figures


def row(name, ap, milliseconds=1.0, family=None, is_variant=False):
    figures = dict.fromkeys(FIGURES, ap)
    family = family or name
    return ComparedRow(name, figures, None, None, None, milliseconds, {}, family, is_variant)


NO_SCORES = Calibration(None, (0,) * 10, (None,) * 10, (None,) * 10)


def analysed(errors=None, calibration=NO_SCORES):
    """An analysed row of which a chart needs the errors or the calibration alone."""
    return AnalysedRow(errors, 0.5, None, DuplicateCounts(0.0, None, None), None, calibration)


def analysis_of(rows):
    """Analysed rows of candidates without clusters."""
    return Analysis(rows, 0.5, ClusterIoUs(*[torch.zeros(0)] * 3), None)


def test_rows_of_no_images_are_levels(drawn, tmp_path):
    rows = [row("nms", None, 0.0), row("oracle_box", None, None)]
    comparison_chart.plot_comparison(rows, tmp_path / "compare.png", images=0)
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [
        "0.0 nms",
        "0.0 oracle_box",
    ]


def test_families_are_listed_by_their_best_ap(drawn, tmp_path):
    rows = [
        row("nms", 30.0),
        row("wbf", 28.0, 2.0),
        row("wbf:iou_threshold=0.4", 33.0, 2.0, "wbf", True),
        row("wbf:iou_threshold=0.5", 31.0, 3.0, "wbf", True),
        row("oracle_box", 50.0, None),
        row("undefined", None),
    ]
    comparison_chart.plot_comparison(rows, tmp_path / "compare.png")
    (figure,) = drawn
    (legend,) = figure.legends
    labels = ["50.0 oracle_box", "33.0 wbf", "30.0 nms", "0.0 undefined"]
    assert [text.get_text() for text in legend.get_texts()] == labels
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines]
    assert ([2.0, 3.0], [33.0, 31.0]) in lines  # the variants, joined by a line
    assert ([2.0], [28.0]) in lines  # the defaults of the family
    assert ([0, 1], [50.0, 50.0]) in lines  # a level, as it has no time
    assert ([0, 1], [30.0, 30.0]) in lines  # the baseline
    assert (tmp_path / "compare.png").stat().st_size > 1000


def test_the_axis_shows_how_rows_differ_and_points_have_names(drawn, tmp_path):
    rows = [
        row("nms", 75.0),
        row("wbf", 76.0, 2.0),
        row("wbf:iou_threshold=0.4", 75.5, 2.0, "wbf", True),
        row("none", 20.0, 0.5),
        row("oracle_box", 92.0, None),
    ]
    comparison_chart.plot_comparison(rows, tmp_path / "compare.png", images=149)
    (axes,) = drawn[0].axes
    low, high = axes.get_ylim()
    assert 72 < low < 75
    assert 76 < high < 79
    assert [text.get_text() for text in axes.texts] == ["nms", "wbf"]
    assert axes.get_title() == (
        "AP of 5 rows on 149 images\nabove the axis: oracle_box 92.0\nbelow the axis: none 20.0"
    )


def test_names_with_dollars_are_no_formulas(drawn, tmp_path):
    name = "run a$x_{$"
    comparison_chart.plot_comparison([row("nms", 30.0), row(name, 20.0)], tmp_path / "compare.png")
    nothing = dict.fromkeys(ERROR_TYPES, 0)
    analysis = analysis_of({name: analysed(ErrorTypes(50.0, nothing, nothing, 0.0, 0.0))})
    plots.plot_errors(analysis, tmp_path / "errors.png")
    plots.plot_reliability(analysis, tmp_path / "reliability.png")
    labels = ("20.0 run a$x_{$", f"{name}: AP50 50.0", f"- {name}, 0 boxes")
    for figure, label in zip(drawn, labels, strict=True):
        shown = [text.get_text() for text in figure.legends[0].get_texts()]
        assert label in [text.replace(r"\$", "$") for text in shown]


def test_bars_say_what_errors_cost_and_how_many_there_are(drawn, tmp_path):
    def errors(first):
        costs = {kind: first + number for number, kind in enumerate(ERROR_TYPES)}
        return ErrorTypes(50.0, costs, dict.fromkeys(ERROR_TYPES, 7), 1.0, 2.0)

    rows = {name: analysed(errors(first)) for name, first in (("a", 1), ("b", 10))}
    plots.plot_errors(analysis_of(rows), tmp_path / "errors.png")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(ERROR_TYPES)
    assert [bar.get_width() for bar in axes.patches] == [*range(1, 7), *range(10, 16)]
    assert [text.get_text() for text in axes.texts][:2] == ["1.0 (7)", "2.0 (7)"]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [
        "a: AP50 50.0",
        "b: AP50 50.0",
    ]


@pytest.mark.parametrize("after", [False, True])
def test_histograms_show_the_clusters_before_and_after_the_stage(drawn, tmp_path, after):
    before = ClusterIoUs(torch.tensor([0.5, 0.75]), torch.tensor([1.0, 1.0]), torch.zeros(2))
    moved = dataclasses.replace(before, key=torch.tensor([1.0, 1.0]))
    plots.plot_placement(before, moved if after else None, tmp_path / "placement.png")
    titles = [axes.get_title() for axes in drawn[0].axes]
    if after:
        assert titles[0] == "KeyIoU: mean 0.625 -> 1.000"
    else:
        assert titles == ["KeyIoU: mean 0.625", "MaxIoU: mean 1.000", "AvgIoU: mean 0.000"]
    for axes in drawn[0].axes:
        assert [sum(stairs.get_data().values) for stairs in axes.patches] == [2] * (1 + after)


def test_without_clusters_there_is_no_mean(drawn, tmp_path):
    plots.plot_placement(ClusterIoUs(*[torch.zeros(0)] * 3), None, tmp_path / "placement.png")
    assert drawn[0].axes[0].get_title() == "KeyIoU: mean -"


def test_a_reliability_diagram_has_the_filled_bins_of_each_row_and_names_the_errors(
    drawn, tmp_path
):
    empty = [None] * 8
    measured = Calibration(0.125, (40, *[0] * 8, 2), (0.06, *empty, 0.97), (0.1, *empty, 0.5))
    rows = {"nms": analysed(calibration=measured), "logits": analysed()}
    plots.plot_reliability(analysis_of(rows), tmp_path / "reliability.png")
    (figure,) = drawn
    top, bottom = figure.axes
    diagonal, nms, logits = top.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert nms.get_xydata().tolist() == [[0.06, 0.1], [0.97, 0.5]]
    assert bottom.lines[0].get_xydata().tolist() == [[0.06, 40], [0.97, 2]]
    assert (len(logits.get_xydata()), bottom.get_yscale()) == (0, "log")
    assert nms.get_marker() != logits.get_marker()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "0.125 nms, 42 boxes",
        "- logits, 0 boxes",
    ]
    assert (tmp_path / "reliability.png").stat().st_size > 1000


def test_curves_have_a_line_for_each_row_and_name_the_best_threshold(drawn, tmp_path):
    scores = np.linspace(0, 1, 100)
    rows = {
        "nms": Curves(
            np.stack([RECALLS, RECALLS / 2]), 40 * scores, scores / 2, BestF1(0.987, 0.5, 0.5, 0.5)
        ),
        "post_nms": Curves(np.ones((2, 101)), 50 * scores, scores[::-1], None),
    }
    plots.plot_curves(rows, tmp_path / "curves.png")
    (figure,) = drawn
    pr, ap, f1 = figure.axes
    assert [line.get_label() for line in pr.lines] == [
        "nms, IoU 0.5",
        "nms, IoU 0.75",
        "post_nms, IoU 0.5",
        "post_nms, IoU 0.75",
    ]
    assert pr.lines[1].get_ydata().tolist() == (RECALLS / 2).tolist()
    assert ap.lines[1].get_ydata().tolist() == (50 * scores).tolist()
    assert [line.get_label() for line in f1.lines] == ["nms: 0.50 at 0.99", "post_nms"]
    assert (tmp_path / "curves.png").stat().st_size > 1000
