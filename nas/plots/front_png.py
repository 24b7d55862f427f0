"""front.png: the front as a static picture, for a README or a report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.front import Front, FrontPoint
from nas.pareto import non_dominated
from nas.plots.labels import axis_label
from nas.plots.png_file import one_chart, write_png
from nas.trust import RankingTrust

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FRONT, _DOMINATED, _KNEE, _TIED = "#1f6fb4", "#c3cad1", "#f5b301", "#d4e6f5"


def write_front_png(front: Front, path: Path, cost: str | None = None, trust: RankingTrust | None = None) -> None:
    """Writes the picture of a front, 1600 by 1000 pixels.

    Args:
        front: what is shown.
        path: of the picture.
        cost: name of the objective on the horizontal axis; by default the first cost.
        trust: complete; groups networks that are statistically tied.

    Raises:
        ValueError: the cost is no objective.
    """
    write_png(draw_front(front, cost, trust), path)


def draw_front(front: Front, cost: str | None = None, trust: RankingTrust | None = None) -> "Figure":
    """Returns the figure of a front; the arguments are those of `write_front_png`."""
    names = [objective.name for objective in front.costs]
    cost = cost or names[0]
    if cost not in names:
        raise ValueError(f"a cost must be one of {names}, got {cost!r}")
    figure, axes = one_chart()
    broken = [point for point in front.points if not point.feasible]
    dominated = [point for point in front.points if point.feasible and not point.on_front]
    if broken:
        axes.plot(*_columns(broken, cost), "x", color="#b9a3a3", markersize=4, label="breaks a constraint")
    if dominated:
        axes.plot(*_columns(dominated, cost), "o", color=_DOMINATED, markersize=4, label="dominated")
    if trust:
        _draw_tied(front, cost, trust, axes)
    if front.best:
        _draw_best(front, cost, axes)
    for constraint in front.constraints:
        if constraint.objective.name == cost:
            axes.axvline(constraint.bound, color="#8a97a3", linestyle=":", label=f"constraint {constraint.text}")
    axes.set_xlabel(axis_label(front, cost))
    axes.set_ylabel(axis_label(front, "accuracy"))
    axes.set_title(f"Pareto front of {front.run}: {len(front.best)} of {len(front.points)} networks", loc="left")
    if front.points:
        handles, labels = axes.get_legend_handles_labels()
        # Error bars come last by themselves; the front belongs first.
        axes.legend(handles[-1:] + handles[:-1], labels[-1:] + labels[:-1], loc="lower right", frameon=False)
    return figure


def _draw_tied(front: Front, cost: str, trust: RankingTrust, axes: "Axes") -> None:
    label = trust.tie_text
    for group in trust.tied(front):
        if len(group) > 1:
            # A thick line through a group's networks reaches around their markers at every zoom.
            x, y = _columns(sorted(group, key=lambda point: point.values[cost].value), cost)
            axes.plot(x, y, "-", color=_TIED, linewidth=16, solid_capstyle="round", zorder=0.5, label=label)
            label = "_nolegend_"


def _draw_best(front: Front, cost: str, axes: "Axes") -> None:
    x, y = _columns(front.best, cost)
    # Of the front in all objectives, what is not dominated in the two that are drawn.
    line = np.flatnonzero(non_dominated(np.column_stack([x, -y])))
    line = line[np.argsort(x[line], kind="stable")]
    axes.step(x[line], y[line], where="post", color=_FRONT, linewidth=1.2)
    axes.errorbar(
        x,
        y,
        xerr=_half_widths(front.best, cost),
        yerr=_half_widths(front.best, "accuracy"),
        fmt="o",
        color=_FRONT,
        ecolor=f"{_FRONT}73",
        elinewidth=1,
        capsize=2,
        markersize=6,
        markeredgecolor="white",
        label="Pareto front",
    )
    knee = [point for point in front.best if point.key == front.knee]
    axes.plot(*_columns(knee, cost), "*", color=_KNEE, markeredgecolor="#7a5200", markersize=15, label="knee", zorder=4)


def _columns(points: Sequence[FrontPoint], cost: str) -> NDArray[np.float64]:
    """``(2, n)``: the cost and the accuracy of each network."""
    return np.array([[point.values[name].value for point in points] for name in (cost, "accuracy")])


def _half_widths(points: Sequence[FrontPoint], name: str) -> NDArray[np.float64]:
    """``(2, n)``: below and above the centre; 0 where the value is exact."""
    values = [point.values[name] for point in points]
    return np.array(
        [
            [value.value - (value.value if value.lower is None else value.lower) for value in values],
            [(value.value if value.upper is None else value.upper) - value.value for value in values],
        ]
    )
