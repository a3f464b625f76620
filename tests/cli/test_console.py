"""What the verbs print, in terminals of several widths."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from postnms.cli.console import print_classes, print_evaluation, say
from postnms.evaluation.metrics import FIGURES
from postnms.evaluation.results import ClassFigures, Evaluation, Gain


@pytest.mark.parametrize("columns", ["60", "80"])
def test_the_table_names_its_rows_in_a_narrow_terminal(columns):
    shown = io.StringIO()
    rows = {row: dict.fromkeys(FIGURES, 12.3) for row in ("nms", "post_nms")}
    print_evaluation(
        Evaluation(rows, {"post_nms": Gain(None)}), Console(file=shown, width=int(columns))
    )
    first_words = [line.split()[0] for line in shown.getvalue().splitlines()]
    assert first_words == ["row", "nms", "post_nms"]


def test_many_classes_are_counted_and_few_are_all_shown():
    for count in (2, 25):
        classes = tuple(ClassFigures(f"class\x1b{i}", 10.0 + i, None) for i in range(count))
        shown = io.StringIO()
        evaluation = Evaluation({}, {}, {"nms": classes, "post_nms": classes})
        print_classes(evaluation, Path("run/metrics.test.json"), Console(file=shown, width=80))
        lines = shown.getvalue().splitlines()
        assert " ".join(lines[0].split()) == "class nms AP nms AP50 post_nms AP post_nms AP50"
        assert lines[1].split() == ["class\\x1b0", "10.0", "-", "10.0", "-"]
        more = ["and 5 more classes, in metrics.test.json"] if count > 20 else []
        assert lines[1 + min(count, 20) :] == more


def test_long_names_of_rows_are_whole_in_a_narrow_terminal():
    row = "post_nms+soft_nms_linear"
    classes = (ClassFigures("cat", 10.0, 20.0),)
    evaluation = Evaluation(
        {row: dict.fromkeys(FIGURES, 12.3)}, {row: Gain(1.0, -0.5, 2.0)}, {row: classes}
    )
    shown = io.StringIO()
    console = Console(file=shown, width=40, highlight=False)
    print_evaluation(evaluation, console)
    print_classes(evaluation, Path("metrics.json"), console)
    lines = shown.getvalue().splitlines()
    assert lines[1].split() == [row, *["12.3"] * len(FIGURES)]
    assert lines[2] == f"gain of {row} over nms: +1.00 AP (95 % interval -0.50 to +2.00)"
    assert lines[3].split() == ["class", row, "AP", row, "AP50"]


def test_control_characters_are_shown_and_not_sent(capsys):
    say("a\x1b]0;title\x07b\tc\nd\x9b e\udcff \u00e9")
    assert capsys.readouterr().out == "a\\x1b]0;title\\x07b\\tc\nd\\x9b e\\udcff \u00e9\n"


def test_warnings_are_plain_lines_without_control_characters(capsys):
    code = (
        "import logging; from postnms.cli.console import show_warnings; show_warnings(); "
        "logging.getLogger('postnms.x').warning('%s: odd', 'a' + chr(27))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert shown.stderr == b"a\\x1b: odd\n"
