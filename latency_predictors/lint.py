"""The linter of measurement tables: finds rows that a predictor must not learn from, and says why.

A table has the columns of the shared schema; only ``arch``, ``device`` and ``latency_ms`` or ``throughput_ips`` are
needed. Rows are judged within a *column*: one device under one set of conditions (runtime, precision, batch size, ...).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latency_predictors.finding import Finding, Rule
from search_spaces.cost import network_cost
from search_spaces.encodings import encoding, list_encodings
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
_CONDITIONS = (
    "runtime", "precision", "batch_size", "latency_batch_size", "threads", "cpu_threads", "task", "image_size",
    "system_name", "source", "org", "round",
)  # fmt: skip
_NAMED_CONDITIONS = ("batch_size", "precision")


@dataclass(frozen=True)
class _Column:
    """One device under one set of conditions.

    Attributes:
        device: its name.
        rows: ``(n,)``, numbers in the table.
        values: ``(n,)`` milliseconds.
        table: all of it.
    """

    device: str
    rows: Integers
    values: Floats
    table: pa.Table

    def take(self, name: str) -> list[object]:
        """Returns the column's cells of one field; None where the table lacks it."""
        if name not in self.table.column_names:
            return [None] * len(self.rows)
        found: list[object] = self.table[name].take(pa.array(self.rows)).to_pylist()
        return found

    def numbers(self, name: str) -> Floats:
        """Returns the same as floats; NaN where there is none."""
        return np.array([np.nan if cell is None else float(str(cell)) for cell in self.take(name)])

    @cached_property
    def vectors(self) -> Integers | None:
        """The architectures ``(n, d)`` as integers; None where they are not vectors of one length."""
        try:
            vectors = [json.loads(str(text)) for text in self.take("arch")]
        except ValueError:
            return None
        lengths = {len(vector) if isinstance(vector, list) else -1 for vector in vectors}
        if len(lengths) != 1 or min(lengths) < 1 or not all(isinstance(n, int) for v in vectors for n in v):
            return None
        return np.array(vectors, dtype=np.int64)

    def finding(self, rule: Rule, mask: NDArray[np.bool_], what: str) -> Finding:
        """Returns a finding on some of the rows."""
        return Finding(rule, self.device, tuple(int(row) for row in self.rows[mask]), what)


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
    for column in _columns(table):
        for rule in _RULES:
            findings.extend(rule(column))
    findings.extend(_mixed_conditions(table))
    return findings


def _values(table: pa.Table) -> Floats:
    """Returns milliseconds for each row; NaN where the table has none."""
    values = np.full(len(table), np.nan)
    if "latency_ms" in table.column_names:
        values = np.array(table["latency_ms"].to_pylist(), dtype=np.float64)
    if "throughput_ips" in table.column_names:
        throughput = np.array(table["throughput_ips"].to_pylist(), dtype=np.float64)
        with np.errstate(divide="ignore"):
            values = np.where(np.isnan(values), 1000 / throughput, values)
    return values


def _refused(table: pa.Table) -> NDArray[np.bool_]:
    if "verdict" not in table.column_names:
        return np.zeros(len(table), bool)
    return np.array([verdict == "refused" for verdict in table["verdict"].to_pylist()], dtype=bool)


def _impossible_values(table: pa.Table) -> list[Finding]:
    values = _values(table)
    found: dict[str, list[int]] = {}
    for row in np.flatnonzero(~(np.isfinite(values) & (values > 0) | _refused(table))):
        found.setdefault(table["device"][int(row)].as_py(), []).append(int(row))
    return [
        Finding("impossible", device, tuple(rows), f"{len(rows)} rows have no latency above zero")
        for device, rows in found.items()
    ]


def _columns(table: pa.Table) -> Iterator[_Column]:
    values = _values(table)
    names = ["device", *(name for name in _CONDITIONS if name in table.column_names)]
    keys = list(zip(*(table[name].to_pylist() for name in names), strict=True))
    rows: dict[tuple[object, ...], list[int]] = {}
    judged = np.isfinite(values) & (values > 0) & ~_refused(table)
    for row, key in enumerate(keys):
        if judged[row]:
            rows.setdefault(key, []).append(row)
    for key, members in rows.items():
        numbers = np.array(members)
        yield _Column(str(key[0]), numbers, values[numbers], table)


def _not_measured(column: _Column) -> Iterator[Finding]:
    for kind in dict.fromkeys(column.take("kind")):
        if kind not in {None, "measured"}:
            mask = np.array([found == kind for found in column.take("kind")])
            yield column.finding(
                "not_measured",
                mask,
                f"{mask.sum()} rows are {kind}, not measured end to end",
            )


def _additive(column: _Column) -> Iterator[Finding]:
    vectors = column.vectors
    if vectors is None:
        return
    blocks = np.hstack([(place[:, None] == np.unique(place)).astype(float) for place in vectors.T])
    if len(blocks) < 2 * blocks.shape[1] or np.ptp(column.values) == 0:
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


def _whole_milliseconds(column: _Column) -> Iterator[Finding]:
    whole = np.abs(column.values - np.round(column.values)) < 1e-6
    error = 0.5 / float(np.median(column.values))
    if len(whole) >= 5 and whole.mean() >= WHOLE_SHARE and error > WHOLE_ERROR:
        yield column.finding(
            "whole_milliseconds",
            whole,
            f"values are whole milliseconds, so rounding alone is up to {100 * error:.1f} % of the median",
        )


def _far_below(column: _Column) -> Iterator[Finding]:
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


def _dead_cells(column: _Column) -> NDArray[np.bool_]:
    """Returns which rows are NAS-Bench-201 cells with no arithmetic between input and output."""
    spaces, vectors = column.take("space"), column.vectors
    if set(spaces) != {"nasbench201"} or vectors is None or vectors.shape[1] != 6:
        return np.zeros(len(column.rows), bool)
    paths = ([3], [1, 5], [0, 4], [0, 2, 5])
    working = [(vectors[:, path] != 0).all(axis=1) & (vectors[:, path] > 1).any(axis=1) for path in paths]
    dead: NDArray[np.bool_] = ~np.logical_or.reduce(working)
    return dead


def _impossible_speed(column: _Column) -> Iterator[Finding]:
    """Faster than the arithmetic peak of the device's class; many rows at once point to the unit."""
    space, device_class = column.take("space")[0], column.take("device_class")[0]
    vectors = column.vectors
    if space not in list_encodings() or device_class not in PEAK_MACS_PER_MS or vectors is None:
        return
    public = encoding(str(space))
    batch = np.nan_to_num(column.numbers("batch_size"), nan=1.0)
    fastest = np.argsort(column.values)[:20]  # enough to judge a column; the slow rows cannot be impossible alone
    layers = public.search_space.layers
    macs = np.array([network_cost(layers(public.decode(vector))).macs for vector in vectors[fastest].tolist()])
    mask = np.zeros(len(column.rows), bool)
    mask[fastest] = macs * batch[fastest] / column.values[fastest] > PEAK_MACS_PER_MS[str(device_class)]
    if mask.any():
        yield column.finding(
            "impossible",
            mask,
            f"at least {mask.sum()} rows are faster than any {device_class} computes (seconds for milliseconds?)",
        )


def _duplicates(column: _Column) -> Iterator[Finding]:
    rows: dict[object, list[int]] = {}
    for index, arch in enumerate(column.take("arch")):
        rows.setdefault(arch, []).append(index)
    apart = np.zeros(len(column.rows), bool)
    for members in rows.values():
        values = column.values[members]
        if len(members) > 1 and values.max() > DUPLICATES * values.min():
            apart[members] = True
    if apart.any():
        yield column.finding(
            "disagreeing_duplicates",
            apart,
            f"{apart.sum()} rows measure a network again and differ by more than {100 * (DUPLICATES - 1):.0f} %",
        )


def _long_tail(column: _Column) -> Iterator[Finding]:
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


def _scattered(column: _Column) -> Iterator[Finding]:
    spread = np.sqrt(column.numbers("latency_var_ms2")) / column.numbers("latency_ms")
    throughput = column.numbers("throughput_std_ips") / column.numbers("throughput_ips")
    scattered = (spread > SCATTER) | (throughput > SCATTER)
    if scattered.any():
        yield column.finding(
            "scattered",
            scattered,
            f"{scattered.sum()} rows scatter by more than {100 * SCATTER:.0f} % between runs",
        )


_RULES: Sequence[Callable[[_Column], Iterator[Finding]]] = (
    _not_measured,
    _additive,
    _whole_milliseconds,
    _far_below,
    _impossible_speed,
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
