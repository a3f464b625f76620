"""Colours and markers of charts, and how they are saved."""

from pathlib import Path

from matplotlib.figure import Figure

from postnms.files.atomic import atomic_path

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777", "#000000")


MARKERS = "osD^vP*X"


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
