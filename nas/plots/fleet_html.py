"""fleet.html: regret against the number of networks, and who gets which, as one page that needs no network."""

import shlex
from pathlib import Path

from nas.fleet import FleetPlan
from nas.plots.html_page import html_page, write_html_page


def write_fleet_html(plan: FleetPlan, path: Path, run_dir: Path | None = None) -> None:
    """Writes the page of a fleet.

    Args:
        plan: what is shown.
        path: of the page, about 5 MB.
        run_dir: as it stands in the ``nas finish`` command that the page offers; by default the folder of the page.
    """
    write_html_page(fleet_html(plan, str(run_dir or path.parent)), path)


def fleet_html(plan: FleetPlan, run_dir: str) -> str:
    """Returns the page of a fleet; the arguments are those of `write_fleet_html`."""
    data = {
        "plan": plan.to_dict(),
        "budgets": [
            [
                {"name": budget.objective.name, "text": budget.text, "at_most": budget.at_most, "bound": budget.bound}
                for budget in device.budgets
            ]
            for device in plan.devices
        ],
        "finish": f"nas finish {shlex.quote(run_dir)}",
    }
    return html_page("fleet", f"Fleet of {plan.run}", data)
