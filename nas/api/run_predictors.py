"""The predictors of a run: those in its folder, and those that are still to be measured and fitted."""

from dataclasses import dataclass, replace
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
    from latency_predictors.catalog import Catalog, CatalogEntry
    from latency_predictors.measurement import Measurement, Metric


@dataclass(frozen=True)
class KnownPredictor:
    """A predictor that need not be measured for.

    Attributes:
        catalog: where it is.
        entry: its version.
        predictor: itself.
        origin: of one that `devices` names, ``folder/name/v2``; empty for one that the run fitted.
    """

    catalog: "Catalog"
    entry: "CatalogEntry"
    predictor: "LatencyPredictor"
    origin: str


def known_predictors(run: Run) -> dict[str, KnownPredictor]:
    """Returns the predictors that the run has, or would copy when it is started, by name (`Objective.predictor`).

    Raises:
        InputError: one is damaged, or as `named_predictors`.
    """
    from latency_predictors.catalog import Catalog

    catalog = Catalog(run.predictors_dir)
    there = {entry.name for entry in catalog.entries()}
    learned = (Objective(metric, device).predictor for device in run.config.devices for metric in LEARNED)
    return {name: _known(catalog, name) for name in learned if name in there} | named_predictors(run)


def named_predictors(run: Run) -> dict[str, KnownPredictor]:
    """Returns the predictors that `devices` names and that the run has no copy of yet, by name there.

    Raises:
        InputError: one is not there, is damaged, was fitted under other conditions or to another space than the run's,
            or two tell the same.
    """
    from latency_predictors.catalog import Catalog

    space, own = run.config.space.load(), Catalog(run.predictors_dir).entries()
    taken = {entry.name: entry.origin or "another one, in the run's folder" for entry in own}
    found: dict[str, KnownPredictor] = {}
    for device, config in run.config.devices.items():
        copied = {entry.origin.rpartition("/")[0] for entry in own if entry.name.partition(".")[0] == device}
        for folder, named in config.predictors:
            if f"{folder}/{named.partition('/')[0]}" in copied:
                continue
            try:
                known = _known(Catalog(folder), named)
                known = replace(known, origin=f"{folder}/{known.entry.id}")
                _check_conditions(known.entry, profile_of(config).id, space)
                objective = Objective(known.entry.metric, device)
                name = str(objective.predictor)
                if name in taken:
                    raise InputError(f"{known.origin} tells {objective.name}, and so does {taken[name]}: keep one")
            except InputError as error:
                raise InputError(f"devices.{device}.predictor: {error}") from None
            found[name] = known
            taken[name] = known.origin
    return found


def copy_named_predictors(run: Run) -> None:
    """Copies the predictors that `devices` names into the run's folder, where they are not there yet.

    Raises:
        InputError: as `named_predictors`.
    """
    from latency_predictors.catalog import Catalog

    for name, known in named_predictors(run).items():
        known.catalog.copy(known.entry, Catalog(run.predictors_dir), name)


def _known(catalog: "Catalog", name: str) -> KnownPredictor:
    entry = catalog.entry(name)
    return KnownPredictor(catalog, entry, catalog.load(name), entry.origin)


def _check_conditions(entry: "CatalogEntry", profile: str, space: SearchSpace) -> None:
    if entry.device != profile:
        raise InputError(
            f"{entry.id} predicts {entry.device}, and the device is {profile} here: name a predictor of that, or "
            "change device, precision or threads"
        )
    for dimension in space.dimensions:
        if entry.choices and not entry.choices & {f"{dimension.name}={choice}" for choice in dimension.choices}:
            raise InputError(
                f"{entry.id} has learned from networks of another space than {space.name!r} (none had a choice of "
                f"{dimension.name}): name one that was fitted to networks of this space"
            )


def origin_note(known: KnownPredictor, space: SearchSpace) -> str:
    """Returns where a predictor that `devices` names comes from, how good it is, and what it has not learned from.

    Args:
        known: the predictor.
        space: the run's.
    """
    choices = [f"{one.name}={choice}" for one in space.dimensions for choice in one.choices]
    unseen = [choice for choice in choices if known.entry.choices and choice not in known.entry.choices]
    guessed = f"; no network had {', '.join(unseen)}, so that its intervals are guesses there" if unseen else ""
    return f"{known.origin}, a {_described(known.entry)}; nothing is measured for it{guessed}"


def predictors_of(run: Run, space: SearchSpace, progress: ProgressListener) -> "dict[str, LatencyPredictor]":
    """Returns the predictors of all learned objectives and bounds, by name: loaded, or measured and fitted."""
    from latency_predictors.catalog import Catalog

    catalog = Catalog(run.predictors_dir)
    for device, terms in unfitted(run).items():
        rows = _measure(run, device, space, progress)
        for name, metric in terms.items():
            with run.stage(f"fit {name}"):
                entry = catalog.save(name, fit_measured(rows, space, metric))
            progress(Progress("fit", 1, 1, f"{name}: {_described(entry)}", notable=True))
    predictors = {}
    for term in run.config.parsed_terms:
        if term.predictor is None or term.device is None:
            continue
        known = _known(catalog, term.predictor)
        predictors[term.predictor] = known.predictor
        if known.origin:
            progress(Progress("fit", 1, 1, f"{term.name}: {origin_note(known, space)}", notable=True))
        asked = profile_of(run.config.devices[term.device]).id
        if known.entry.device != asked:
            text = f"{term.name} is {asked} in this run, and its predictor was fitted on {known.entry.device}"
            progress(Progress("fit", 1, 1, text, notable=True))
    return predictors


def _described(entry: "CatalogEntry") -> str:
    found = entry.validations[0].scores
    return (
        f"{entry.kind} predictor from {entry.rows} networks; cross-validated: MAPE {found.mape:.1%}, "
        f"within 10 %: {found.within_10:.0%}, Spearman {found.spearman:.3f}, "
        f"coverage of the 90 % interval {found.coverage:.0%}"
    )


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
