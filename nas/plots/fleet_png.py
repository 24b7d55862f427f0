"""fleet.png: regret against the number of networks as a static picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from nas.fleet import FleetPlan
from nas.plots.png_file import one_chart, write_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_fleet_png(plan: FleetPlan, path: Path) -> None:
    """Writes the picture of a fleet, 1600 by 1000 pixels."""
    write_png(draw_fleet(plan), path)


def draw_fleet(plan: FleetPlan) -> "Figure":
    """Returns the figure of a fleet."""
    figure, axes = one_chart()
    sizes = sorted(plan.fleets)
    fleets = [plan.fleets[size] for size in sizes]
    axes.errorbar(
        sizes,
        [fleet.regret for fleet in fleets],
        yerr=[fleet.error or 0.0 for fleet in fleets],
        fmt="o-",
        color="#1f6fb4",
        ecolor="#1f6fb473",
        elinewidth=1,
        linewidth=1.2,
        capsize=2,
        markersize=6,
        markeredgecolor="white",
        label="best fleet",
    )
    axes.plot(
        [plan.enough],
        [plan.fleets[plan.enough].regret],
        "*",
        color="#f5b301",
        markeredgecolor="#7a5200",
        markersize=15,
        zorder=4,
        label="fewest whose regret is within its error",
    )
    axes.set_xlim(0.6, len(plan.devices) + 0.4)
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(1, len(plan.devices) + 1))
    axes.set_xlabel("networks to maintain")
    axes.set_ylabel("regret (accuracy lost, share-weighted)")
    axes.set_title(f"Fleet of {plan.run}: {len(plan.devices)} devices", loc="left")
    axes.legend(loc="upper right", frameon=False)
    return figure
