"""What the verbs print, in terminals of several widths."""

import io

import pytest
from rich.console import Console

from postnms.cli.console import print_evaluation
from postnms.evaluation.metrics import FIGURES
from postnms.evaluation.results import Evaluation, Gain


@pytest.mark.parametrize("columns", ["60", "80"])
def test_the_table_names_its_rows_in_a_narrow_terminal(columns):
    shown = io.StringIO()
    rows = {row: dict.fromkeys(FIGURES, 12.3) for row in ("nms", "post_nms")}
    print_evaluation(Evaluation(rows, Gain(None)), Console(file=shown, width=int(columns)))
    first_words = [line.split()[0] for line in shown.getvalue().splitlines()]
    assert first_words == ["row", "nms", "post_nms"]
