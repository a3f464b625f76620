"""Figures of a benchmark as tables, JSON, Markdown and a chart."""

import json

from PIL import Image

from postnms.speed.pooling import Pooling
from postnms.speed.report import (
    Figures,
    Sheet,
    library_lines,
    plot_clustering,
    sheets,
    to_json,
    to_markdown,
)
from postnms.speed.surroundings import Work
from postnms.speed.timing import Timing
from tests.support.speed import row

ABOUT = {
    "machine": "a machine",
    "version": "0.1",
    "commit": None,
    "torch": "2.9",
    "command": "postnms benchmark",
}
ROWS = [
    row(1000, groups=80, postnms=0.25, torchvision=1),
    row(10_000, postnms=2, torchvision=100),
    row(20_000, postnms=5, torchvision=40),
    row(1_000_000, postnms=250),
    row(1000, groups=80, threads=2, postnms=0.25, torchvision=1.5),
]
POOLED = [Pooling(2, 3, 64, 10, "forward", 1, Timing(2, 7), Timing(9, 7))]
LIBRARIES = {"torchvision": "0.24", "lsnms": None}
AROUND = [
    Work("stage", "9 boxes", 1, Timing(30, 7), "matrix products", 12.0),
    Work("evaluation", "5 images", 1, Timing(123.4, 7), None, None),
    Work("stage", "9 boxes", 2, Timing(20, 7), "matrix products", 6.25),
]
FIGURES = Figures(
    LIBRARIES,
    ROWS,
    {"all identical": Timing(4.321, 5)},
    50,
    POOLED,
    {1000: 99.6, 2000: None},
    AROUND,
)


def cells(title):
    sheet = next(sheet for sheet in sheets(FIGURES) if sheet.title.startswith(title))
    return [dict(zip(sheet.columns, line, strict=True)) for line in sheet.rows]


def test_clustering_is_a_table_for_each_number_of_threads():
    first, second, _, last = cells("Clustering, 1 thread")
    assert (first["boxes"], first["groups"], first["postnms ms"]) == ("1,000", "80", "0.25 (7)")
    assert (first["torchvision / ours"], second["torchvision / ours"]) == ("4.0", "50.0")
    assert (last["torchvision ms"], last["torchvision / ours"], last["postnms ms"]) == (
        "-",
        "-",
        "250 (7)",
    )
    assert [line["torchvision / ours"] for line in cells("Clustering, 2 threads")] == ["6.0"]


def test_targets_stand_with_their_verdict():
    found = {
        line["target"].split(" boxes")[0]: (line["found"], line["verdict"])
        for line in cells("Targets")
    }
    assert found["1,000"] == ("4.00", "met")
    assert found["20,000"] == ("8.00", "not met")
    assert found["50,000"] == ("-", "not measured")
    assert found["exponent of the time, 10,000 to 1,000,000"] == ("1.05", "met")
    assert cells("Targets")[-1]["wanted"] == "<= 1.15"


def test_the_other_tables():
    assert cells("Bad input: 50 boxes") == [{"boxes": "all identical", "ms": "4.32", "rounds": "5"}]
    assert [line["bytes a box"] for line in cells("Memory")] == ["100", "not measured here"]
    (pooled,) = cells("Pooling")
    assert (pooled["pass"], pooled["ours ms"], pooled["ratio"]) == ("forward", "2 (7)", "4.5")


def test_what_surrounds_clustering_stands_beside_its_limit():
    one, two, evaluation = cells("Stage, evaluation and data")
    assert list(one.values()) == [
        "stage",
        "9 boxes",
        "1",
        "30 (7)",
        "12",
        "2.5",
        "matrix products",
    ]
    assert (two["work"], two["threads"], two["times the limit"]) == ("stage", "2", "3.2")
    assert (evaluation["ms (rounds)"], evaluation["limit ms"]) == ("123 (7)", "-")
    assert (evaluation["times the limit"], evaluation["the limit"]) == ("-", "-")


def test_a_sheet_as_text_and_markdown():
    sheet = Sheet("title", ["name", "ms"], [["a", "10.0"], ["longer", "2"]])
    assert sheet.text() == "title\nname      ms\na       10.0\nlonger     2"
    assert (
        sheet.markdown()
        == "## title\n\n| name | ms |\n| --- | ---: |\n| a | 10.0 |\n| longer | 2 |"
    )


def test_json_has_figures_targets_and_origin():
    plain = json.loads(json.dumps(to_json(FIGURES, ABOUT), allow_nan=False))
    assert plain["machine"] == "a machine"
    assert plain["libraries"] == LIBRARIES
    assert plain["clustering"][0]["times"]["torchvision"] == {"milliseconds": 1, "rounds": 7}
    assert plain["growth"]["postnms"]["to_boxes"] == 1_000_000
    assert [target["met"] for target in plain["targets"]] == [True, None, False, None, None, True]
    assert plain["surroundings"][0] == {
        "what": "stage",
        "size": "9 boxes",
        "threads": 1,
        "timing": {"milliseconds": 30, "rounds": 7},
        "limit": "matrix products",
        "limit_milliseconds": 12.0,
    }
    assert plain["memory"] == {"1000": 99.6, "2000": None}


def test_markdown_tells_machine_versions_and_what_is_missing():
    text = to_markdown(FIGURES, ABOUT)
    assert "- machine: a machine\n" in text
    assert "postnms 0.1 (commit unknown), torch 2.9, torchvision 0.24, lsnms not installed" in text
    assert text.count("\n## ") == len(sheets(FIGURES)) == 7
    assert library_lines(LIBRARIES) == ["torchvision: 0.24", "lsnms: not installed"]


def test_the_plot_has_a_line_a_library_with_its_slope(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    shown = []
    write = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **k: (shown.append(figure), write(figure, *a, **k))
    )
    plot_clustering(ROWS, tmp_path / "c.png")
    (axes,) = shown[0].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [
        "postnms: slope 1.05 from 1e4 to 1e6",
        "torchvision: slope -1.32 from 1e4 to 2e4",
    ]
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 2]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    with Image.open(tmp_path / "c.png") as image:
        assert image.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]
