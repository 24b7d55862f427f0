"""The report of a predictor on disk: the page, and the picture beside it."""

from pathlib import Path

from nas.errors import InputError
from nas.plots.latency_html import write_latency_html
from nas.plots.latency_png import write_latency_png
from nas.plots.latency_report import LatencyReport


def write_report(report: LatencyReport, path: Path) -> None:
    """Writes a report as a page and, beside it, as a picture.

    Raises:
        InputError: the path does not end with ``.html``.
    """
    if path.suffix != ".html":
        raise InputError(f"a report must end with .html, got {str(path)!r}; its picture is written beside it")
    write_latency_html(report, path)
    write_latency_png(report, path.with_suffix(".png"))
