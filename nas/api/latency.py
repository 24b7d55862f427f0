"""The verbs of device teams: measure networks, fit a predictor, check it against fresh measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from nas.api.predictors import predictor_summary
from nas.config import DeviceConfig
from nas.errors import InputError
from nas.progress import Progress, ProgressListener, silent
from search_spaces.architecture import Architecture
from search_spaces.cost import Precision
from search_spaces.layer import LayerSpec
from search_spaces.space import SearchSpace, list_spaces, load_space

if TYPE_CHECKING:
    from latency_predictors.evaluation import FittedPredictor
    from latency_predictors.finding import Finding
    from latency_predictors.imported import ImportedTable
    from latency_predictors.measurement import DeviceProfile, Measurement, Metric
    from latency_predictors.table_file import LatencyUnit

Network = tuple[Architecture, tuple[LayerSpec, ...]]


def measure_latency(
    out: Path,
    *,
    space: str = "tiny",
    count: int = 40,
    device: str = "local/onnxruntime",
    precision: Precision = "fp32",
    threads: int = 1,
    preset: str = "quick",
    seed: int = 0,
    progress: ProgressListener = silent,
) -> "list[Measurement]":
    """Measures distinct random networks of a space and adds the rows to a measurement set.

    Args:
        out: the set's Parquet file; networks it already has under the same conditions are not measured again.
        space: shipped space or YAML file.
        count: of networks.
        device: name of a device.
        precision: of the measured files.
        threads: of the runtime.
        preset: ``quick``, ``standard`` or ``energy``.
        seed: of the networks drawn, of their weights and of the order of measuring.
        progress: told where it stands.

    Returns:
        A row for each network, refused ones included.

    Raises:
        InputError: an unknown space, device or preset, a damaged measurement set, a space smaller than ``count``.
    """
    from latency_predictors.measurement import DeviceProfile
    from latency_predictors.session import measure_networks
    from latency_predictors.store import MeasurementSet

    return measure_networks(
        distinct_networks(load_space(space), count, seed),
        DeviceProfile(device, precision, threads),
        preset=preset,
        seed=seed,
        store=MeasurementSet(out),
        progress=lambda done, total, text: progress(Progress("measure", done, total, text)),
    )


def measuring_devices() -> list[dict[str, object]]:
    """Returns a table row for each kind of device, each device that is being measured on, and each in quarantine."""
    from latency_predictors.devices import list_devices
    from latency_predictors.devices.lease import leases
    from latency_predictors.devices.quarantine import quarantined

    rows: dict[str, dict[str, object]] = {
        name: {"device": name, "state": "-", "until": "-", "reason": ""} for name in list_devices()
    }
    for held in leases():
        until = f"{datetime.fromtimestamp(held.until, UTC):%Y-%m-%d %H:%M} UTC" if held.until else "-"
        reason = f"process {held.process} measures"
        rows[held.device] = {"device": held.device or "?", "state": "leased", "until": until, "reason": reason}
    for name, entry in quarantined().items():
        until = f"{entry.until:%Y-%m-%d %H:%M} UTC"
        rows[name] = {"device": name, "state": "quarantine", "until": until, "reason": entry.reason}
    return list(rows.values())


def release_device(name: str) -> None:
    """Ends a device's quarantine.

    Raises:
        InputError: it is in none.
    """
    from latency_predictors.devices.quarantine import release

    release(name)


def lint_latency(data: Path) -> "list[Finding]":
    """Returns what is wrong with a table of measurements, an empty list for a clean one.

    Args:
        data: a measurement set, or a table of others: Parquet, CSV or JSON lines in the schema of `docs/latency.md`.

    Raises:
        InputError: a file that cannot be read, or one that lacks a column.
    """
    from latency_predictors.lint import lint
    from latency_predictors.table_file import read_table

    return lint(read_table(data))


def finding_rows(findings: "Sequence[Finding]") -> list[dict[str, object]]:
    """Returns a table row for each finding; rows are counted from 0."""
    return [
        {
            "rule": finding.rule,
            "device": finding.device,
            "rows": len(finding.rows),
            "first_row": finding.rows[0],
            "what": finding.what,
            "consequence": finding.consequence,
            "mend": finding.mend,
        }
        for finding in findings
    ]


def import_latency(
    data: Path,
    out: Path,
    *,
    space: str | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int = 1,
    latency_unit: "LatencyUnit" = "ms",
) -> "ImportedTable":
    """Adds the rows of somebody else's table to a measurement set; those not to learn from are kept as refused.

    Args:
        data: Parquet, CSV or JSON lines in the schema of `docs/latency.md`.
        out: the set's Parquet file.
        space: what ``arch`` is written in, where no column says it: ``ofa_mbv3``, ``mnasnet_anb``, ``fbnet``, or any
            name for integer vectors of another space.
        device: the only one to import; the name of all rows where no column names it.
        precision: of rows that do not state theirs.
        threads: likewise.
        latency_unit: of the column ``latency_ms`` in the file.

    Returns:
        The measurements, what the linter found, and which rows name networks that this product cannot build.

    Raises:
        InputError: a file that cannot be read, a missing column, no such device, a row that lacks what no option gives.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from latency_predictors.imported import import_table
    from latency_predictors.measurement import now
    from latency_predictors.store import MeasurementSet
    from latency_predictors.table_file import read_table

    table = read_table(data, latency_unit=latency_unit)
    if device is not None and "device" not in table.column_names:
        table = table.append_column("device", pa.array([device] * len(table), pa.string()))
    elif device is not None:
        held = sorted(set(table["device"].to_pylist()))
        table = table.filter(pc.equal(table["device"], device))
        if not len(table):
            raise InputError(f"{data} has no rows of {device!r}, it has {', '.join(map(str, held)) or 'no rows'}")
    found = import_table(table, str(data), now(), space=space, precision=precision, threads=threads)
    MeasurementSet(out).append(found.measurements)
    return found


def import_summary(found: "ImportedTable") -> dict[str, object]:
    """Returns how many rows of an imported table are to be learned from."""
    verdicts = [row.verdict for row in found.measurements]
    devices = {row.profile.id for row in found.measurements}
    counts = {verdict: verdicts.count(verdict) for verdict in ("accepted", "noisy", "refused")}
    return {"rows": len(verdicts), "devices": len(devices), **counts}


def fit_latency(
    data: Path, name: str, store: Path, space: str | None = None, metric: "Metric" = "latency_ms"
) -> tuple[dict[str, object], list[dict[str, str | int | float]]]:
    """Fits predictors of every kind to the usable rows of a measurement set; saves the best as a version of ``name``.

    Args:
        data: Parquet file with rows of one device profile.
        name: of the predictor.
        store: folder of predictors.
        space: YAML file of the networks' space where it is none that ships.
        metric: what to predict; rows that do not have it are left out.

    Returns:
        A summary: version, kind, rows, and the cross-validated scores of that kind; and a row of scores for every kind
        that was tried, the best first.

    Raises:
        InputError: too few rows, rows of several profiles, a damaged file.
    """
    from latency_predictors.catalog import Catalog

    rows = _usable(data, metric)
    entry = Catalog(store).save(name, _fit(rows, spaces_of(list(map(_architecture, rows)), space), metric))
    return predictor_summary(entry), [validation.to_dict() for validation in entry.validations]


def evaluate_latency(
    name: str, data: Path, store: Path, space: str | None = None, report: Path | None = None
) -> dict[str, object]:
    """Returns the scores of a saved predictor on the usable rows of a measurement set, and records them beside it.

    ``drift`` says why the predictor no longer matches its device (`latency_predictors.drift`), or ``none``;
    ``learning_curve`` is how its expected error fell with the rows learned from (`latency_predictors.learning_curve`).
    ``report`` is a page to write (.html), with a picture beside it (.png).

    Raises:
        InputError: no such predictor, fewer than 2 networks, or the rows are of another device profile.
    """
    from latency_predictors.catalog import Catalog
    from latency_predictors.drift import find_drift
    from latency_predictors.metrics import scores
    from nas.plots.latency_files import write_report
    from nas.plots.latency_report import LatencyReport

    catalog = Catalog(store)
    entry, predictor = catalog.entry(name), catalog.load(name, of_choices=True)
    rows = _usable(data, cast("Metric", entry.metric))
    if not rows[0].profile.is_meant_by(entry.device):
        raise InputError(f"{entry.id} predicts {entry.device}, {data} holds {rows[0].profile.id}: choose rows of one")
    if len(rows) < 2:
        raise InputError(f"an evaluation takes at least 2 networks, {data} holds {len(rows)}: measure more")
    networks = [_architecture(row) for row in rows]
    spaces = {} if entry.of_choices else spaces_of(networks, space)
    prediction, measured = predictor.predict_architectures(networks, spaces), _values(rows, entry.metric)
    found, drift = scores(prediction, measured), find_drift(prediction, measured, entry.rows)
    curve = catalog.learning_curve(entry)
    if report is not None:
        write_report(
            LatencyReport.of(
                entry.id, entry.device, entry.metric, networks, prediction, measured, rows_learned=entry.rows,
                curve=curve,
            ),
            report,
        )  # fmt: skip
    verification = catalog.verify(entry, data.name, found, drift.reason)
    return {
        "predictor": entry.id,
        "device": entry.device,
        "metric": entry.metric,
        **asdict(found),
        "measured_over_predicted": drift.ratio,
        "drift": drift.reason or "none",
        "last_verified": verification.at.isoformat(timespec="seconds"),
        "learning_curve": [asdict(step) for step in curve],
    }


def measurement_rows(rows: "Sequence[Measurement]") -> list[dict[str, object]]:
    """Returns a table row for each measurement."""
    return [
        {
            "key": row.key,
            "device": row.profile.id,
            "latency_ms": row.latency_ms or "-",
            "interval_95": f"[{row.lower_ms:.4g}, {row.upper_ms:.4g}]" if row.lower_ms and row.upper_ms else "-",
            "blocks": len(row.block_medians_ms),
            "verdict": row.verdict,
            "reason": row.reason,
        }
        for row in rows
    ]


def profile_of(config: DeviceConfig) -> "DeviceProfile":
    """Returns the profile that a device of an experiment is measured with."""
    from latency_predictors.measurement import DeviceProfile

    return DeviceProfile(config.device, config.precision, config.threads)


def distinct_networks(space: SearchSpace, count: int, seed: int) -> list[Network]:
    """Returns the smallest, the largest and then random architectures of a space, with their layers, each once.

    With the same seed, those of a smaller count are the first ones of a larger count.

    Raises:
        InputError: the space has fewer than ``count`` architectures.
    """
    if count > space.size:
        raise InputError(f"space {space.name!r} has {space.size} architectures, fewer than the {count} asked for")
    rng = np.random.default_rng(seed)
    found = {architecture.key: architecture for architecture in (space.smallest(), space.largest())}
    while len(found) < count:
        architecture = space.sample(rng)
        found[architecture.key] = architecture
    return [(architecture, space.layers(architecture)) for architecture in list(found.values())[:count]]


def fit_measured(rows: "Sequence[Measurement]", space: SearchSpace, metric: "Metric") -> "FittedPredictor":
    """Returns a predictor fitted to measured networks of one space and one device profile.

    Raises:
        InputError: too few rows have the metric.
    """
    return _fit(_known(rows, metric, f"{len(rows)} measured networks"), {space.name: space}, metric)


def _fit(rows: "Sequence[Measurement]", spaces: Mapping[str, SearchSpace], metric: "Metric") -> "FittedPredictor":
    from latency_predictors.architecture_features import architecture_features, feature_columns
    from latency_predictors.evaluation import fit_best_predictor

    architectures = [_architecture(row) for row in rows]
    columns = feature_columns(architectures, spaces)
    # Other costs have no interval.
    noise = np.array([row.standard_error for row in rows]) if metric == "latency_ms" else None
    return fit_best_predictor(
        architecture_features(architectures, columns, spaces),
        _values(rows, metric),
        noise,
        metric=metric,
        device=rows[0].profile.id,
        columns=columns,
    )


def spaces_of(architectures: Sequence[Architecture], own: str | None = None) -> dict[str, SearchSpace]:
    """Returns the spaces of architectures by name; none where they are integer vectors of a space unknown here.

    Args:
        architectures: whose spaces are wanted.
        own: YAML file of a space that does not ship.

    Raises:
        InputError: one of several spaces is unknown, or the only one is and its architectures are no integer vectors.
    """
    from latency_predictors.architecture_cell import is_vector

    known = {space.name: space for space in ([load_space(own)] if own else [])}
    names = dict.fromkeys(architecture.space for architecture in architectures)
    unknown = [name for name in names if name not in known and name not in list_spaces()]
    if len(names) == len(unknown) == 1 and all(map(is_vector, architectures)):
        return {}
    if unknown:
        given = f", {own} is of {', '.join(known)}" if own else ""
        raise InputError(f"networks are of space {unknown[0]!r}, none that ships{given}: give its YAML file as --space")
    return {name: known[name] if name in known else load_space(name) for name in names}


def _usable(data: Path, metric: "Metric") -> "list[Measurement]":
    from latency_predictors.set_quarantine import refuse_quarantined
    from latency_predictors.store import MeasurementSet

    refuse_quarantined(data)
    rows = MeasurementSet(data).read_usable()
    profiles = sorted({row.profile.id for row in rows})
    if len(profiles) != 1:
        held = ", ".join(profiles) or "no usable row"
        raise InputError(f"{data} must hold rows of one device profile, it holds {held}: measure into one file each")
    return _known(rows, metric, str(data))


def _known(rows: "Sequence[Measurement]", metric: "Metric", source: str) -> "list[Measurement]":
    """Returns the rows that have a metric.

    Raises:
        InputError: none has it.
    """
    known = [row for row in rows if getattr(row, metric)]
    if not known:
        mend = "--preset energy where there is a counter" if metric == "energy_mj" else "a device that tells it"
        raise InputError(f"no row of {source} has {metric}: measure again with {mend}")
    return known


def _architecture(row: "Measurement") -> Architecture:
    if row.architecture is None:
        raise InputError(f"row {row.key} names no architecture: leave rows of finished files out")
    return row.architecture


def _values(rows: "Sequence[Measurement]", metric: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([getattr(row, metric) for row in rows], np.float64)
