"""front.html: the front as one interactive page that needs no network."""

import shlex
from pathlib import Path

from nas.front import Front
from nas.objectives import Objective
from nas.plots.html_page import html_page, write_html_page
from nas.plots.labels import axis_label, quantity
from nas.trust import RankingTrust


def write_front_html(front: Front, path: Path, run_dir: Path | None = None, trust: RankingTrust | None = None) -> None:
    """Writes the page of a front.

    Args:
        front: what is shown.
        path: of the page, about 5 MB.
        run_dir: as it stands in the ``nas finish`` command that the page offers; by default the folder of the page.
        trust: complete; groups networks that are statistically tied.
    """
    write_html_page(front_html(front, str(run_dir or path.parent), trust), path)


def front_html(front: Front, run_dir: str, trust: RankingTrust | None = None) -> str:
    """Returns the page of a front; all text of the run is escaped.

    Args:
        front: what is shown.
        run_dir: as it stands in the ``nas finish`` command that the page offers.
        trust: complete; groups networks that are statistically tied.
    """
    names = list(dict.fromkeys([*(o.name for o in front.objectives), *(n for p in front.points for n in p.values)]))
    data = {
        "front": front.to_dict(),
        "names": names,
        "labels": {name: axis_label(front, name) for name in names},
        "quantities": {name: quantity(Objective.parse(name)) for name in names},
        "costs": [objective.name for objective in front.costs],
        "bounds": {
            constraint.objective.name: constraint.bound for constraint in front.constraints if constraint.at_most
        },
        "tied": {
            "text": trust.tie_text if trust else "",
            "groups": [[point.key for point in group] for group in trust.tied(front)] if trust else [],
        },
        "finish": f"nas finish {shlex.quote(run_dir)}",
    }
    return html_page("front", f"Pareto front of {front.run}", data)
