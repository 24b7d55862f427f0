"""The report of a predictor as a static picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from nas.plots.latency_report import LatencyReport
from nas.plots.learning_png import draw_curve
from nas.plots.png_file import make_plain, write_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_STAGES = 12
"""In the picture; the page shows all."""


def write_latency_png(report: LatencyReport, path: Path) -> None:
    """Writes the picture of a report, 1000 pixels high and 1200 wide for each of its two or three parts."""
    write_png(draw_latency(report), path)


def draw_latency(report: LatencyReport) -> "Figure":
    """Returns the figure of a report: predicted against measured, errors by stage, and the learning curve if any."""
    from matplotlib.figure import Figure

    parts = 3 if report.curve else 2
    figure = Figure(figsize=(6 * parts, 5), dpi=200, layout="constrained")
    fit, stages, *curve = figure.subplots(1, parts)
    errors = [
        [p - low for p, low in zip(report.predicted, report.lower, strict=True)],
        [high - p for p, high in zip(report.predicted, report.upper, strict=True)],
    ]
    fit.errorbar(
        report.measured, report.predicted, yerr=errors, fmt="o", color="#1f6fb4", ecolor="#1f6fb440", elinewidth=1,
        markersize=3.5, label="networks, 90 % interval",
    )  # fmt: skip
    ends = [min(*report.measured, *report.predicted), max(*report.measured, *report.predicted)]
    fit.plot(ends, ends, color="#8a97a3", linestyle=":", label="exact")
    fit.set_xscale("log")
    fit.set_yscale("log")
    fit.set_xlabel(f"measured {report.quantity}")
    fit.set_ylabel(f"predicted {report.quantity}")
    fit.set_title(
        f"{report.scores.within_10:.0%} within 10 %, {report.scores.coverage:.0%} in their interval", loc="left"
    )
    fit.legend(loc="upper left", frameon=False)
    shown = report.stages[:MOST_STAGES][::-1]
    stages.barh([error.stage for error in shown], [100 * error.explained for error in shown], color="#1f6fb4")
    stages.set_xlim(0, 100)
    stages.set_xlabel("variance of the errors that follow the stage's choices (%)")
    stages.set_title("Errors by stage", loc="left")
    for axes in curve:
        draw_curve(axes, report.curve)
        axes.set_title("Learning curve", loc="left")
    for axes in (fit, stages):
        make_plain(axes)
    figure.suptitle(f"{report.predictor} on {report.device}", x=0.01, ha="left")
    return figure
