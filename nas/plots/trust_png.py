"""trust.png: accuracy of networks trained by themselves against the supernet's, as a static picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from nas.plots.png_file import one_chart, write_png
from nas.trust import RankingTrust

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_trust_png(trust: RankingTrust, path: Path) -> None:
    """Writes the picture of a complete trust, 1600 by 1000 pixels."""
    write_png(draw_trust(trust), path)


def draw_trust(trust: RankingTrust) -> "Figure":
    """Returns the figure of a complete trust: mean over the seeds, with a bar from the least to the greatest."""
    figure, axes = one_chart()
    for on_front, colour, label in ((False, "#8a97a3", "from the space"), (True, "#1f6fb4", "from the front")):
        networks = [network for network in trust.networks if network.on_front == on_front]
        means = [sum(network.trained.values()) / len(network.trained) for network in networks]
        ends = [(min(network.trained.values()), max(network.trained.values())) for network in networks]
        axes.errorbar(
            [network.estimated for network in networks],
            means,
            yerr=[
                [mean - low for mean, (low, _) in zip(means, ends, strict=True)],
                [high - mean for mean, (_, high) in zip(means, ends, strict=True)],
            ],
            fmt="o",
            color=colour,
            elinewidth=1,
            capsize=2,
            markersize=6,
            markeredgecolor="white",
            label=f"{label} (bars: {len(trust.seeds)} seeds)",
        )
    everything, top, *_ = trust.agreements
    axes.set_title(
        f"{trust.run}: Kendall tau {everything.kendall.value:.2f} "
        f"[{everything.kendall.lower:.2f}, {everything.kendall.upper:.2f}], "
        f"top third {top.kendall.value:.2f} [{top.kendall.lower:.2f}, {top.kendall.upper:.2f}]",
        loc="left",
    )
    axes.set_xlabel("accuracy with the supernet's weights (fraction of the validation split)")
    axes.set_ylabel("accuracy trained by itself (fraction)")
    axes.legend(loc="lower right", frameon=False)
    return figure
