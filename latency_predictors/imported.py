"""Rows of somebody else's table as measurements.

The linter judges them: none is left out, those not to learn from are refused with the reason.

What a table does not say stands as such in the measurement: the environment is "not stated" (with the source as its
system), protocol version 0, preset ``imported``, and the interval is that of the rounding or of the stated scatter, or
just the value.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast, get_args

import pyarrow as pa

from latency_predictors.environment import Environment
from latency_predictors.finding import Finding, Rule
from latency_predictors.lint import lint
from latency_predictors.measurement import DeviceProfile, Measurement
from latency_predictors.statistics import Verdict
from search_spaces.architecture import Architecture
from search_spaces.cost import Precision
from search_spaces.encodings import encoding, list_encodings
from search_spaces.errors import InputError

PRESET = "imported"
NOT_STATED = "not stated"
VERDICTS: dict[Rule, Verdict] = {"whole_milliseconds": "noisy", "long_tail": "noisy", "scattered": "noisy"}
"""Of rows that break a rule; refused where none is named here."""
Row = Mapping[str, Any]  # Any: cells of a table


@dataclass(frozen=True)
class ImportedTable:
    """The rows of a table.

    Attributes:
        measurements: one for each row, in order.
        findings: of the linter.
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
        precision: of rows that do not state theirs.
        threads: likewise.

    Raises:
        InputError: the table lacks a column, a row lacks its precision or space and no option gives it, or an
            architecture cannot be read.
    """
    findings = lint(table)
    broken: dict[int, list[Finding]] = {}
    for finding in findings:
        for row in finding.rows:
            broken.setdefault(row, []).append(finding)
    measurements = []
    for number, row in enumerate(table.to_pylist()):
        try:
            measurements.append(_measurement(row, broken.get(number, ()), source, at, space, precision, threads))
        except ValueError as error:
            raise InputError(f"{source}, row {number}: {error}") from None
    return ImportedTable(tuple(measurements), tuple(findings))


def decode_architecture(text: str, space: str) -> Architecture:
    """Returns the architecture of a cell of ``arch``.

    An integer vector of an unknown encoding becomes an architecture with a dimension for each place (``place00``, ...).

    Raises:
        InputError: neither a list of integers that the encoding has nor an architecture of this product.
    """
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if isinstance(data, dict):
        return Architecture.from_json(text)
    if not isinstance(data, list) or not all(type(number) is int for number in data):
        raise InputError(f"an architecture must be a JSON list of integers, got {text[:80]!r}")
    if space in list_encodings():
        return encoding(space).decode(data)
    return Architecture(space, tuple((f"place{place:02}", number) for place, number in enumerate(data)))


def is_vector(architecture: Architecture) -> bool:
    """Returns whether an architecture is an integer vector of an unknown encoding (`decode_architecture`)."""
    return bool(architecture.values) and all(name.startswith("place") for name, _ in architecture.values)


def _measurement(
    row: Row,
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
    architecture = decode_architecture(row["arch"], space)
    stated = row.get("precision")
    stated = precision if stated in {None, "unknown"} else stated
    if stated not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise InputError(f"its precision is {stated or 'not stated'}: give --precision ({known}), or leave the row out")
    latency, half_width = _value(row)
    verdict, reason = _verdict(row, findings)
    runtime = row.get("runtime") or "unknown"
    measured = row.get("measured_at")
    return Measurement(
        key=architecture.key,
        architecture=architecture,
        network_hash=hashlib.sha256(architecture.to_json().encode()).hexdigest()[:12],
        profile=DeviceProfile(
            row["device"], cast(Precision, stated), int(row.get("threads") or row.get("cpu_threads") or threads)
        ),
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
        peak_memory_mb=row.get("peak_memory_mb"),
        energy_mj=row.get("energy_mj"),
        energy_source=NOT_STATED if row.get("energy_mj") else None,
    )


def _value(row: Row) -> tuple[float | None, float]:
    """Returns the latency of a row and how far it may be off, both in milliseconds."""
    latency, throughput = row.get("latency_ms"), row.get("throughput_ips")
    if latency is None and throughput:
        latency = 1000 / throughput
    if latency is None or not (math.isfinite(latency) and latency > 0):
        return None, 0.0
    spread = math.sqrt(row.get("latency_var_ms2") or 0.0) or latency * (row.get("throughput_std_ips") or 0.0) / (
        throughput or 1.0
    )
    rounding = 0.5 if latency == round(latency) else 0.0
    return float(latency), max(1.96 * spread, rounding)


def _verdict(row: Row, findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """Returns the linter's word, unless the row is of a batch: a measurement is of one image."""
    verdicts = [VERDICTS.get(finding.rule, "refused") for finding in findings]
    reasons = [f"{finding.rule}: {finding.consequence}" for finding in findings]
    batch = row.get("batch_size") or row.get("latency_batch_size") or 1
    if batch != 1:
        verdicts.append("refused")
        reasons.append(f"a batch of {batch} images, not one")
    verdict: Verdict = "refused" if "refused" in verdicts else "noisy" if verdicts else "accepted"
    return verdict, "; ".join(reasons)
