"""The report of a predictor as one page that needs no network."""

from pathlib import Path

from nas.plots.html_page import html_page, write_html_page
from nas.plots.latency_report import LatencyReport


def write_latency_html(report: LatencyReport, path: Path) -> None:
    """Writes the page of a report, about 5 MB."""
    write_html_page(latency_html(report), path)


def latency_html(report: LatencyReport) -> str:
    """Returns the page of a report."""
    return html_page("latency", f"{report.predictor} on {report.device}", report.to_dict())
