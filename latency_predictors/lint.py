"""The linter of measurement tables: finds rows that a predictor must not learn from, and says why.

A table has the columns of the shared schema; only ``arch``, ``device`` and ``latency_ms`` or ``throughput_ips`` are
needed. Rows are judged within a *column*: one device under one set of conditions (runtime, precision, batch size, ...).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latency_predictors.features import CLASSES, FEATURE_NAMES
from latency_predictors.finding import Finding
from latency_predictors.measured_column import MeasuredColumn, latencies_ms, measured_columns, refused
from latency_predictors.session_drift import drifted_rows
from latency_predictors.two_levels import FACTOR, FACTOR_OF_NUMBERS, Levels, explained_by, find_levels
from search_spaces.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ADDITIVE = 1e-4
"""Median error of a sum of block costs, relative to the median latency; real clocks repeat to 0.1 % at best."""
WHOLE_SHARE = 0.99
WHOLE_ERROR = 0.005
"""Rounding by half a millisecond matters where it is more than this share of the median."""
DEGENERATE = 1 / 30
"""Of the column's median; networks of one space differ by less."""
THOUSAND = (1 / 3000, 1 / 300)
"""Of the column's median: seconds written as milliseconds, if many rows are there."""
DUPLICATES = 1.15
"""Largest over smallest of the measurements of one network."""
TAIL = 1.35
"""90th percentile over median of single inferences."""
SCATTER = 0.10
"""Standard deviation of repeated runs over their mean."""
PEAK_MACS_PER_MS: dict[str, float] = {
    "phone": 2e9, "cpu": 2e9, "embedded_cpu": 5e8, "desktop_cpu": 1e10, "server_cpu": 5e10, "embedded_gpu": 2e10,
    "mobile_gpu": 5e9, "vpu": 5e9, "dsp": 3e10, "npu": 5e10, "fpga": 2e10, "tpu": 5e11, "gpu": 1e12, "asic": 1e12,
}  # fmt: skip
"""Multiply-accumulates a millisecond that no device of a class reaches (vendors' peaks of 2023, INT8, rounded up)."""
PEAK_OF_ANY = max(PEAK_MACS_PER_MS.values())
PEAK_OF_ONE_IMAGE = 5e9
"""Likewise, of no class, for the latency of a single image, which leaves most of a large device idle: an A100 that is
kept busy computes 6e9 on networks of Accel-NASBench, and a tenth of that one image at a time."""
LEVELS_SAMPLE = 400
"""Rows that tell whether a column lies at two levels, before all of it is worked out."""
_NAMED_CONDITIONS = ("batch_size", "precision")


def lint(table: pa.Table) -> list[Finding]:
    """Returns what is wrong with a table of measurements, by device; an empty list for a clean one.

    Rows that a measuring protocol has refused already are not judged again.

    Raises:
        InputError: a column that every table needs is missing.
    """
    for name in ("arch", "device"):
        if name not in table.column_names:
            raise InputError(f"a table of measurements needs the column {name!r}, got {', '.join(table.column_names)}")
    if not {"latency_ms", "throughput_ips"} & set(table.column_names):
        raise InputError("a table of measurements needs the column 'latency_ms' or 'throughput_ips'")
    findings = _impossible_values(table)
    for column in measured_columns(table):
        for rule in _RULES:
            findings.extend(rule(column))
    findings.extend(_mixed_conditions(table))
    return findings


def _impossible_values(table: pa.Table) -> list[Finding]:
    values = latencies_ms(table)
    found: dict[str, list[int]] = {}
    for row in np.flatnonzero(~(np.isfinite(values) & (values > 0) | refused(table))):
        found.setdefault(table["device"][int(row)].as_py(), []).append(int(row))
    return [
        Finding("impossible", device, tuple(rows), f"{len(rows)} rows have no latency above zero")
        for device, rows in found.items()
    ]


def _not_measured(column: MeasuredColumn) -> Iterator[Finding]:
    for kind in dict.fromkeys(column.take("kind")):
        if kind not in {None, "measured"}:
            mask = np.array([found == kind for found in column.take("kind")])
            yield column.finding(
                "not_measured",
                mask,
                f"{mask.sum()} rows are {kind}, not measured end to end",
            )


def _additive(column: MeasuredColumn) -> Iterator[Finding]:
    vectors = column.vectors
    if vectors is None:
        return
    blocks = _one_hot(vectors)
    if not _enough(blocks) or np.ptp(column.values) == 0:
        return
    some = np.linspace(0, len(blocks) - 1, min(len(blocks), 10 * blocks.shape[1])).astype(int)
    costs = np.linalg.lstsq(blocks[some], column.values[some], rcond=None)[0]
    error = float(np.median(np.abs(blocks @ costs - column.values)) / np.median(column.values))
    if error < ADDITIVE:
        yield column.finding(
            "additive",
            np.ones(len(column.rows), bool),
            f"a sum of block costs explains all {len(column.rows)} rows to {100 * error:.1g} %, which no clock does",
        )


def _one_hot(vectors: Integers) -> Floats:
    return np.hstack([(place[:, None] == np.unique(place)).astype(float) for place in vectors.T])


def _enough(blocks: Floats) -> bool:
    """Returns whether there are rows enough to tell what each choice costs."""
    rows, choices = blocks.shape
    return bool(rows >= 2 * choices)


def _whole_milliseconds(column: MeasuredColumn) -> Iterator[Finding]:
    whole = np.abs(column.values - np.round(column.values)) < 1e-6
    error = 0.5 / float(np.median(column.values))
    if len(whole) >= 5 and whole.mean() >= WHOLE_SHARE and error > WHOLE_ERROR:
        yield column.finding(
            "whole_milliseconds",
            whole,
            f"values are whole milliseconds, so rounding alone is up to {100 * error:.1f} % of the median",
        )


def _far_below(column: MeasuredColumn) -> Iterator[Finding]:
    """Rows far below the rest: seconds written as milliseconds, or networks that do not compute anything."""
    if len(column.rows) < 20:
        return
    ratio = column.values / np.median(column.values)
    low = ratio < DEGENERATE
    flagged = column.take("degenerate")
    low |= np.array([flag is True for flag in flagged])
    if not low.any():
        return
    thousandth = low & (ratio > THOUSAND[0]) & (ratio < THOUSAND[1]) & ~_dead_cells(column)
    if thousandth.any():
        yield column.finding(
            "thousandth",
            thousandth,
            f"{thousandth.sum()} rows are about a thousandth of the median",
        )
    degenerate = low & ~thousandth
    if degenerate.any():
        yield column.finding(
            "degenerate",
            degenerate,
            f"{degenerate.sum()} rows are under {100 * DEGENERATE:.0f} % of the median or marked as degenerate",
        )


def _dead_cells(column: MeasuredColumn) -> NDArray[np.bool_]:
    """Returns which rows are NAS-Bench-201 cells with no arithmetic between input and output."""
    spaces, vectors = column.take("space"), column.vectors
    if set(spaces) != {"nasbench201"} or vectors is None or vectors.shape[1] != 6:
        return np.zeros(len(column.rows), bool)
    paths = ([3], [1, 5], [0, 4], [0, 2, 5])
    working = [(vectors[:, path] != 0).all(axis=1) & (vectors[:, path] > 1).any(axis=1) for path in paths]
    dead: NDArray[np.bool_] = ~np.logical_or.reduce(working)
    return dead


def _impossible_speed(column: MeasuredColumn) -> Iterator[Finding]:
    """Faster than the arithmetic peak of the device's class, or of any; many rows at once point to the unit."""
    fastest = np.argsort(column.values)[:20]  # enough to judge a column; the slow rows cannot be impossible alone
    features = column.physical(fastest)
    if features is None:
        return
    macs = features[:, [FEATURE_NAMES.index(f"{kind}.macs") for kind in CLASSES]].sum(axis=1)
    batch = np.nan_to_num(column.numbers("batch_size")[fastest], nan=1.0)
    device_class = str(column.take("device_class")[0])
    if device_class in PEAK_MACS_PER_MS:
        peak, device = np.full(len(fastest), PEAK_MACS_PER_MS[device_class]), device_class
    else:
        single = np.isfinite(column.numbers("latency_ms")[fastest]) & (batch <= 1)
        peak, device = np.where(single, PEAK_OF_ONE_IMAGE, PEAK_OF_ANY), "device"
    mask = np.zeros(len(column.rows), bool)
    mask[fastest] = macs * batch / column.values[fastest] > peak
    if mask.any():
        yield column.finding(
            "impossible",
            mask,
            f"at least {mask.sum()} rows are faster than any {device} computes (seconds for milliseconds?)",
        )


def _two_levels(column: MeasuredColumn) -> Iterator[Finding]:
    """Rows a constant factor from the others of their kind: other batch sizes or precisions under one label."""
    everything = np.arange(len(column.rows))
    sample = np.linspace(0, len(everything) - 1, min(len(everything), LEVELS_SAMPLE)).astype(np.int64)
    if _levels(column, sample) is None:
        return
    levels = _levels(column, everything)
    if levels is None:
        return
    few, word = levels.upper, "slower"
    if 2 * few.sum() > len(few):
        few, word = ~few, "faster"
    yield column.finding(
        "mixed_conditions",
        few,
        f"{few.sum()} of {len(everything)} rows are about {levels.factor:.2g} times {word} than the other networks "
        "tell (another batch size or precision?)",
    )


def _levels(column: MeasuredColumn, places: Integers) -> Levels | None:
    physical = column.physical(places)
    if physical is not None:
        return find_levels(column.values[places], explained_by(physical), FACTOR)
    if column.vectors is None:
        return None
    choices = _one_hot(column.vectors[places])
    return find_levels(column.values[places], choices, FACTOR_OF_NUMBERS) if _enough(choices) else None


def _session_drift(column: MeasuredColumn) -> Iterator[Finding]:
    found = drifted_rows(column)
    if found is not None:
        mask, what = found
        yield column.finding("session_drift", mask, f"{mask.sum()} rows were measured while {what}")


def _duplicates(column: MeasuredColumn) -> Iterator[Finding]:
    apart = np.zeros(len(column.rows), bool)
    for members in column.places_of.values():
        values = column.values[members]
        if len(members) > 1 and values.max() > DUPLICATES * values.min():
            apart[members] = True
    if apart.any():
        yield column.finding(
            "disagreeing_duplicates",
            apart,
            f"{apart.sum()} rows measure a network again and differ by more than {100 * (DUPLICATES - 1):.0f} %",
        )


def _long_tail(column: MeasuredColumn) -> Iterator[Finding]:
    median, high = (
        column.numbers("latency_p50_ms" if "latency_p50_ms" in column.table.column_names else "p50_ms"),
        column.numbers("latency_p90_ms" if "latency_p90_ms" in column.table.column_names else "p90_ms"),
    )
    tail = high > TAIL * median
    if tail.any():
        yield column.finding(
            "long_tail",
            tail,
            f"{tail.sum()} rows have a 90th percentile over {TAIL} times the median",
        )


def _scattered(column: MeasuredColumn) -> Iterator[Finding]:
    spread = np.sqrt(column.numbers("latency_var_ms2")) / column.numbers("latency_ms")
    throughput = column.numbers("throughput_std_ips") / column.numbers("throughput_ips")
    scattered = (spread > SCATTER) | (throughput > SCATTER)
    if scattered.any():
        yield column.finding(
            "scattered",
            scattered,
            f"{scattered.sum()} rows scatter by more than {100 * SCATTER:.0f} % between runs",
        )


_RULES: Sequence[Callable[[MeasuredColumn], Iterator[Finding]]] = (
    _not_measured,
    _additive,
    _whole_milliseconds,
    _far_below,
    _impossible_speed,
    _two_levels,
    _session_drift,
    _duplicates,
    _long_tail,
    _scattered,
)


def _mixed_conditions(table: pa.Table) -> list[Finding]:
    """One device name with several precisions or batch sizes for the same networks."""
    devices = table["device"].to_pylist()
    findings = []
    for name in _NAMED_CONDITIONS:
        if name not in table.column_names:
            continue
        conditions = table[name].to_pylist()
        unknown: dict[str, list[int]] = {}
        for row, (device, condition) in enumerate(zip(devices, conditions, strict=True)):
            if condition in {None, "unknown"}:
                unknown.setdefault(device, []).append(row)
        for device, rows in unknown.items():
            known = sorted(
                {str(c) for d, c in zip(devices, conditions, strict=True) if d == device} - {"None", "unknown"}
            )
            if known:
                findings.append(
                    Finding(
                        "mixed_conditions",
                        device,
                        tuple(rows),
                        f"{len(rows)} rows do not say their {name}, others are {', '.join(known)}",
                    )
                )
    return findings
