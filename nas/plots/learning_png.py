"""learning_curve.png: the expected error of a predictor against the networks measured, as a static picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latency_predictors.learning_curve import LearningStep
from nas.plots.png_file import one_chart, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_learning_png(
    steps: Sequence[LearningStep], title: str, path: Path, *, wanted: float | None = None, found: float | None = None
) -> None:
    """Writes the picture of a learning curve, 1600 by 1000 pixels.

    Args:
        steps: the curve.
        title: of the picture.
        path: of the picture.
        wanted: expected error at which measuring was to stop, as a fraction.
        found: error on networks that were not learned from, as a fraction.
    """
    write_png(draw_learning(steps, title, wanted=wanted, found=found), path)


def draw_learning(
    steps: Sequence[LearningStep], title: str, *, wanted: float | None = None, found: float | None = None
) -> "Figure":
    """Returns the figure of a learning curve; the arguments are those of `write_learning_png`."""
    figure, axes = one_chart()
    draw_curve(axes, steps, wanted=wanted, found=found)
    axes.set_title(title, loc="left")
    return figure


def draw_curve(
    axes: "Axes", steps: Sequence[LearningStep], *, wanted: float | None = None, found: float | None = None
) -> None:
    """Draws a learning curve; the arguments are those of `write_learning_png`."""
    rows = [step.rows for step in steps]
    axes.fill_between(
        rows,
        [100 * step.error_lower for step in steps],
        [100 * step.error_upper for step in steps],
        color="#1f6fb4",
        alpha=0.2,
        linewidth=0,
        label="its 95 % interval",
    )
    axes.plot(rows, [100 * step.error for step in steps], "o-", color="#1f6fb4", label="expected error")
    if wanted is not None:
        axes.axhline(100 * wanted, color="#8a97a3", linestyle=":", label="wanted")
    if found is not None:
        axes.plot(rows[-1:], [100 * found], "*", color="#f5b301", markeredgecolor="#7a5200", markersize=15,
                  label="error on networks not learned from")  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xticks(rows)
    axes.set_xlabel("networks measured")
    axes.set_ylabel("mean error (%)")
    axes.legend(loc="upper right", frameon=False)
