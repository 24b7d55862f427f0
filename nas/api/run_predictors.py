"""The predictors of a run: those in its folder, and those that are still to be measured and fitted."""

from functools import partial
from typing import TYPE_CHECKING, cast

from nas.api.latency import distinct_networks, fit_measured, profile_of
from nas.errors import InputError
from nas.objectives import LEARNED, Objective
from nas.progress import Progress, ProgressListener
from nas.run import Run
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from latency_predictors.base import LatencyPredictor
    from latency_predictors.measurement import Measurement, Metric


def fitted_predictors(run: Run) -> "dict[str, LatencyPredictor]":
    """Returns the predictors that the run has of its devices, by name (`Objective.predictor`)."""
    from latency_predictors.catalog import Catalog

    catalog = Catalog(run.predictors_dir)
    there = {entry.name for entry in catalog.entries()}
    learned = (Objective(metric, device).predictor for device in run.config.devices for metric in LEARNED)
    return {name: catalog.load(name) for name in learned if name in there}


def predictors_of(run: Run, space: SearchSpace, progress: ProgressListener) -> "dict[str, LatencyPredictor]":
    """Returns the predictors of all learned objectives and bounds, by name: loaded, or measured and fitted."""
    from latency_predictors.catalog import Catalog

    catalog = Catalog(run.predictors_dir)
    for device, terms in unfitted(run).items():
        rows = _measure(run, device, space, progress)
        for name, metric in terms.items():
            with run.stage(f"fit {name}"):
                entry = catalog.save(name, fit_measured(rows, space, metric))
            found = entry.validations[0].scores
            text = (
                f"{name}: {entry.kind} predictor from {entry.rows} networks; cross-validated: MAPE {found.mape:.1%}, "
                f"within 10 %: {found.within_10:.0%}, Spearman {found.spearman:.3f}, "
                f"coverage of the 90 % interval {found.coverage:.0%}"
            )
            progress(Progress("fit", 1, 1, text, notable=True))
    predictors = {}
    for term in run.config.parsed_terms:
        if term.predictor is None or term.device is None:
            continue
        predictor = predictors[term.predictor] = catalog.load(term.predictor)
        asked = profile_of(run.config.devices[term.device]).id
        if predictor.device != asked:
            text = f"{term.name} is {asked} in this run, and its predictor was fitted on {predictor.device}"
            progress(Progress("fit", 1, 1, text, notable=True))
    return predictors


def unfitted(run: Run) -> "dict[str, dict[str, Metric]]":
    """Returns, by device that must be measured, the predictors to fit and their metrics.

    Raises:
        InputError: energy is wanted, and the preset does not measure it.
    """
    from latency_predictors.catalog import Catalog
    from latency_predictors.preset import get_preset

    fitted = {entry.name for entry in Catalog(run.predictors_dir).entries()}
    missing: dict[str, dict[str, Metric]] = {}
    for term in run.config.parsed_terms:
        if term.device is None or term.predictor is None or term.predictor in fitted:
            continue
        preset = get_preset(run.config.latency.preset)
        if term.metric == "energy_mj" and not preset.energy_seconds:
            raise InputError(
                f"{term.name} has no predictor, and latency.preset: {preset.name} measures no energy: set "
                "latency.preset: energy, or fit one with `nas latency fit DATA --metric energy_mj --name "
                f"{term.predictor} --store {run.predictors_dir}`"
            )
        missing.setdefault(term.device, {})[term.predictor] = cast("Metric", term.metric)
    return missing


def _measure(run: Run, device: str, space: SearchSpace, progress: ProgressListener) -> "list[Measurement]":
    """Returns the usable rows of a device, measured now or by an earlier start."""
    from latency_predictors.session import measure_networks
    from latency_predictors.store import MeasurementSet

    config = run.config
    host = config.devices[device].host
    measure = measure_networks
    if host:
        from nas.search.executors.device_host import measure_networks_on  # with Ray

        measure = partial(measure_networks_on, host, config.ray)
    with run.stage(f"measure {device}"):
        rows = measure(
            distinct_networks(space, config.latency.count, config.seed),
            profile_of(config.devices[device]),
            preset=config.latency.preset,
            seed=config.seed,
            store=MeasurementSet(run.measurements_path(device)),
            progress=lambda done, total, text: progress(Progress("measure", done, total, f"{device}: {text}")),
        )
    return [row for row in rows if row.usable]
