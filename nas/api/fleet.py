"""The verb of teams that ship to several devices: the fewest networks that serve them all well."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.api.results import front, show_value
from nas.errors import InputError
from nas.front import Front
from nas.objectives import Objective
from nas.run import Run

if TYPE_CHECKING:
    from nas.fleet import FleetPlan


def fleet(run_dir: Path, devices: Sequence[str]) -> "FleetPlan":
    """Returns the best k of a run's evaluated networks for N devices, for k = 1 to N, with what each k loses.

    Written to the run directory too, as fleet.json, fleet.html and fleet.png.

    Args:
        run_dir: of the run.
        devices: such as ``phone: latency_ms <= 2, share 0.7`` (`nas.fleet.FleetDevice.parse`); several in one text
            are separated by semicolons. A metric may be of a device of the run, or of any predictor in the run's
            folder ``predictors``.

    Raises:
        InputError: no run, a mistake in a device, or a budget that no network keeps.
    """
    from nas.fleet import FleetDevice, plan_fleet
    from nas.plots.fleet_html import write_fleet_html
    from nas.plots.fleet_png import write_fleet_png

    run, found = Run.open(run_dir), front(run_dir)
    parsed = [FleetDevice.parse(text) for texts in devices for text in texts.split(";") if text.strip()]
    wanted = dict.fromkeys(budget.objective for device in parsed for budget in device.budgets)
    missing = [objective for objective in wanted if any(objective.name not in p.values for p in found.points)]
    plan = plan_fleet(_with_costs(run, found, missing) if missing else found, parsed)
    write_fleet_html(plan, run.path / "fleet.html", run.path)
    write_fleet_png(plan, run.path / "fleet.png")
    plan.save(run.path / "fleet.json")
    return plan


def _with_costs(run: Run, found: Front, missing: Sequence[Objective]) -> Front:
    """Returns the front with further costs of every network, told as a search would tell them."""
    from latency_predictors.catalog import Catalog
    from latency_predictors.measurement import DeviceProfile
    from nas.data import load_data
    from nas.evaluators.costs import AnalyticAndPredictedCosts

    config, catalog = run.config, Catalog(run.predictors_dir)
    entries = {entry.name: entry for entry in catalog.entries()}
    known = entries.keys() | config.devices.keys()
    for objective in missing:
        name = objective.predictor or objective.device
        if name and name not in (entries if objective.predictor else known):
            metric = objective.metric if objective.predictor else "latency_ms"
            raise InputError(
                f"{objective.name}: run {config.name} has no predictor of {name!r}, only of "
                f"{', '.join(entries) or 'none'}: fit one with `nas latency fit DATA --metric {metric} --name {name} "
                f"--store {run.predictors_dir}`"
            )
    wanted = {name for objective in missing for name in (objective.device, objective.predictor)}
    precisions = {
        name: DeviceProfile.of_id(entry.device).precision for name, entry in entries.items() if name in wanted
    }
    data = load_data(config.data)
    costs = AnalyticAndPredictedCosts(
        config.space.load().with_data(image_channels=data.image_channels, classes=data.classes),
        missing,
        precisions=precisions | {name: device.precision for name, device in config.devices.items()},
        predictors={name: catalog.load(name) for name in entries if name in wanted},
    )
    further = costs.costs_of([point.architecture for point in found.points])
    candidates = [
        (point.architecture, {**point.values, **more}) for point, more in zip(found.points, further, strict=True)
    ]
    return Front.of(found.run, found.objectives, found.constraints, candidates, found.reference)


def fleet_rows(plan: "FleetPlan") -> list[dict[str, object]]:
    """Returns a table row for each network of each fleet; what belongs to the whole fleet stands in its first row."""
    rows: list[dict[str, object]] = []
    for size, fleet in sorted(plan.fleets.items()):
        if len(fleet.models) < size:
            continue  # the same as a smaller one
        head: dict[str, object] = {
            "": "enough" if size == plan.enough else "",
            "networks": size,
            "accuracy": fleet.accuracy,
            "regret": f"{fleet.regret:.4f}" + ("" if fleet.error is None else f" ± {fleet.error:.4f}"),
        }
        for model in fleet.models:
            served = zip(plan.devices, fleet.assigned, strict=True)
            rows.append(
                {
                    **head,
                    "network": model.key,
                    "its accuracy": show_value(model.values["accuracy"]),
                    "devices": ", ".join(device.name for device, point in served if point == model),
                }
            )
            head = dict.fromkeys(head, "")
    return rows
