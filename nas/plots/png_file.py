"""Figures as PNG files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.atomic import write_bytes
from search_spaces.checksum import BLANK, with_checksum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def one_chart() -> "tuple[Figure, Axes]":
    """Returns a figure of 1600 by 1000 pixels with one plain chart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    make_plain(axes)
    return figure, axes


def make_plain(axes: "Axes") -> None:
    """Gives a chart a pale grid behind its marks, and no frame above and to the right."""
    axes.grid(color="#e8edf1")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def write_png(figure: "Figure", path: Path) -> None:
    """Writes a figure with its checksum; the same figure gives the same bytes."""
    file = io.BytesIO()
    # No date or version of the drawing library in the file.
    figure.savefig(file, format="png", metadata={"Software": None})
    # A PNG ends where its last chunk does; programs that show it do not read what follows.
    write_bytes(path, with_checksum(file.getvalue() + f"{BLANK}\n".encode()))
