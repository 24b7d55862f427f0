"""Figures as PNG files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.atomic import write_bytes
from search_spaces.checksum import BLANK, with_checksum

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_png(figure: "Figure", path: Path) -> None:
    """Writes a figure with its checksum; the same figure gives the same bytes."""
    file = io.BytesIO()
    # No date or version of the drawing library in the file.
    figure.savefig(file, format="png", metadata={"Software": None})
    # A PNG ends where its last chunk does; programs that show it do not read what follows.
    write_bytes(path, with_checksum(file.getvalue() + f"{BLANK}\n".encode()))
