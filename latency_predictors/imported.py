"""Rows of somebody else's table as measurements.

The linter judges them: none is left out, those not to learn from are refused with the reason.

What a table does not say stands as such in the measurement: the environment is "not stated" (with the source as its
system), protocol version 0, preset ``imported``, and the interval is that of the rounding or of the stated scatter, or
just the value.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast, get_args

import pyarrow as pa

from latency_predictors.architecture_cell import UnknownNetworkError, decode_architecture
from latency_predictors.environment import NOT_STATED, Environment
from latency_predictors.finding import Finding, Rule
from latency_predictors.lint import lint
from latency_predictors.measured_column import latencies_ms, number_of
from latency_predictors.measurement import DeviceProfile, Measurement
from latency_predictors.statistics import Verdict
from search_spaces.architecture import Architecture
from search_spaces.cost import Precision
from search_spaces.errors import InputError

PRESET = "imported"
VERDICTS: dict[Rule, Verdict] = {"whole_milliseconds": "noisy", "long_tail": "noisy", "scattered": "noisy"}
"""Of rows that break a rule; refused where none is named here."""
Row = Mapping[str, Any]  # Any: cells of a table


@dataclass(frozen=True)
class ImportedTable:
    """The rows of a table.

    Attributes:
        measurements: one for each row, in order.
        findings: of the linter, and which rows name networks that this product cannot build.
    """

    measurements: tuple[Measurement, ...]
    findings: tuple[Finding, ...]


def import_table(
    table: pa.Table,
    source: str,
    at: datetime,
    *,
    space: str | None = None,
    precision: Precision | None = None,
    threads: int = 1,
) -> ImportedTable:
    """Returns measurements of the rows of a table in milliseconds.

    Args:
        table: of `latency_predictors.table_file.read_table`.
        source: where it comes from, for rows that do not say it.
        at: when it was read, for rows that do not say when they were measured.
        space: what ``arch`` is written in, where no column says it: a public encoding, or any name for integer vectors
            that mean nothing to this product.
        precision: of rows that do not state theirs, or one that this product does not have.
        threads: likewise.

    Raises:
        InputError: the table lacks a column, a row lacks its precision or space and no option gives it, or a vector
            cannot be read.
    """
    findings = lint(table)
    broken: dict[int, list[Finding]] = {}
    for finding in findings:
        for row in finding.rows:
            broken.setdefault(row, []).append(finding)
    values = latencies_ms(table).tolist()
    measurements = []
    unknown: dict[str, list[int]] = {}
    for number, (row, value) in enumerate(zip(table.to_pylist(), values, strict=True)):
        try:
            found = _measurement(row, value, broken.get(number, ()), source, at, space, precision, threads)
        except ValueError as error:
            raise InputError(f"{source}, row {number}: {error}") from None
        if found.architecture is None:
            unknown.setdefault(found.profile.device, []).append(number)
        measurements.append(found)
    for device, rows in unknown.items():
        what = f"{len(rows)} rows are of no network that this product can build ({measurements[rows[0]].key}, ...)"
        findings.append(Finding("unknown_network", device, tuple(rows), what))
    return ImportedTable(tuple(measurements), tuple(findings))


def _measurement(
    row: Row,
    value: float,
    findings: Sequence[Finding],
    source: str,
    at: datetime,
    space: str | None,
    precision: Precision | None,
    threads: int,
) -> Measurement:
    space = row.get("space") or space
    if not space:
        raise InputError("no column names its space: give --space")
    architecture, unknown = _architecture(row, space)
    stated = row.get("precision")
    stated = stated if stated in get_args(Precision) or not precision else precision
    if stated not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        told = "not stated" if stated in {None, "unknown"} else stated
        raise InputError(f"its precision is {told}: give --precision ({known}), or leave the row out")
    written = architecture.key if architecture else str(row["arch"] or row.get("model") or NOT_STATED)
    latency, half_width = _interval(row, value)
    verdict, reason = _verdict(row, findings, unknown)
    stated_threads = number_of(row.get("threads")) or number_of(row.get("cpu_threads"))
    energy = number_of(row.get("energy_mj"))
    runtime = row.get("runtime") or "unknown"
    measured = row.get("measured_at")
    return Measurement(
        key=written,
        architecture=architecture,
        network_hash=hashlib.sha256((architecture.to_json() if architecture else written).encode()).hexdigest()[:12],
        profile=DeviceProfile(row["device"], cast(Precision, stated), int(stated_threads or threads)),
        environment=Environment(
            NOT_STATED, 1, NOT_STATED, f"imported from {row.get('source') or source}", NOT_STATED, NOT_STATED
        ),
        runtime=runtime,
        preset=PRESET,
        protocol_version=0,
        seed=0,
        verdict=verdict,
        reason=reason,
        measured_at=measured if isinstance(measured, datetime) and measured.tzinfo else at,
        model_bytes=0,
        latency_ms=latency,
        lower_ms=None if latency is None else latency - min(half_width, 0.9 * latency),
        upper_ms=None if latency is None else latency + half_width,
        peak_memory_mb=number_of(row.get("peak_memory_mb")),
        energy_mj=energy,
        energy_source=NOT_STATED if energy else None,
    )


def _architecture(row: Row, space: str) -> tuple[Architecture | None, str]:
    """Returns the architecture of a row, or None and why it has none."""
    side = number_of(row.get("image_size"))
    try:
        return decode_architecture(row["arch"], space, None if side is None else int(side)), ""
    except UnknownNetworkError as error:
        return None, f"unknown_network: {error}"


def _interval(row: Row, value: float) -> tuple[float | None, float]:
    """Returns the latency of a row, None where its value is none, and how far it may be off, both in milliseconds."""
    if not (math.isfinite(value) and value > 0):
        return None, 0.0
    throughput, deviation = number_of(row.get("throughput_ips")), number_of(row.get("throughput_std_ips"))
    spread = math.sqrt(number_of(row.get("latency_var_ms2")) or 0.0) or value * (deviation or 0.0) / (throughput or 1.0)
    rounding = 0.5 if value == round(value) else 0.0
    return value, max(1.96 * spread, rounding)


def _verdict(row: Row, findings: Sequence[Finding], unknown: str) -> tuple[Verdict, str]:
    """Returns the linter's word, unless it is of no network, or of a batch: a measurement is of one image."""
    verdicts = [VERDICTS.get(finding.rule, "refused") for finding in findings]
    reasons = [f"{finding.rule}: {finding.consequence}" for finding in findings]
    if unknown:
        verdicts.append("refused")
        reasons.append(unknown)
    batch = number_of(row.get("batch_size")) or number_of(row.get("latency_batch_size")) or 1
    if batch != 1:
        verdicts.append("refused")
        reasons.append(f"a batch of {batch:g} images, not one")
    verdict: Verdict = "refused" if "refused" in verdicts else "noisy" if verdicts else "accepted"
    return verdict, "; ".join(reasons)
