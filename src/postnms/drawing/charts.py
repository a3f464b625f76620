"""The common look of all charts, and the way they are saved.

This file imports Matplotlib, which is slow to load. Code that must start fast imports it where a
chart is drawn.
"""

from pathlib import Path

from matplotlib.figure import Figure

from postnms.files.atomic import atomic_path

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777", "#000000")
"""Colours of the lines and bars of a chart, in the order of use."""

MARKERS = "osD^vP*X"
"""Matplotlib markers of the lines of a chart, in the order of use."""


def plain(name: str) -> str:
    r"""Return a name as the text of a chart, in which Matplotlib finds nothing to interpret.

    It would set text between dollars as a formula, and leave out of a legend what begins with an
    underscore.

    Example:
        >>> plain("a$x_{$")
        'a\\$x_{\\$'
    """
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def save_chart(figure: Figure, path: Path) -> None:
    """Write a Matplotlib figure as a PNG file of 120 dots per inch.

    The file appears only when it is complete. Missing folders are created.

    Raises:
        UserError: if the operating system refuses. An older file of this name is left as it was.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
