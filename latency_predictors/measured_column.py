"""What the linter judges at a time: the rows of one device under one set of conditions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latency_predictors.architecture_cell import decode_architecture, is_vector
from latency_predictors.architecture_features import architecture_features
from latency_predictors.environment import NOT_STATED, Environment
from latency_predictors.features import FEATURE_NAMES
from latency_predictors.finding import Finding, Rule
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace, list_spaces, load_space

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_CONDITIONS = (
    "runtime", "precision", "batch_size", "latency_batch_size", "threads", "cpu_threads", "task", "image_size",
    "system_name", "source", "org", "round",
)  # fmt: skip


@dataclass(frozen=True)
class MeasuredColumn:
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
        return np.array([np.nan if (number := number_of(cell)) is None else number for cell in self.take(name)])

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

    @cached_property
    def measured_at(self) -> Floats:
        """When the rows were measured, in seconds; NaN where the table does not tell."""
        return np.array([at.timestamp() if isinstance(at, datetime) else np.nan for at in self.take("measured_at")])

    @cached_property
    def places_of(self) -> dict[object, list[int]]:
        """Where each cell of ``arch`` stands in the column; of empty cells nothing is known."""
        places: dict[object, list[int]] = {}
        for place, arch in enumerate(self.take("arch")):
            if arch is not None:
                places.setdefault(arch, []).append(place)
        return places

    def physical(self, places: Integers) -> Floats | None:
        """Returns the physical features ``(m, f)`` of the networks at some places of the column.

        None where the layers of one are not known here.
        """
        cells = list(zip(self.take("arch"), self.take("space"), strict=True))
        try:
            networks = [_architecture(*cells[place]) for place in places]
            spaces = {network.space: _space(network.space) for network in networks}
            return architecture_features(networks, FEATURE_NAMES, spaces)
        except InputError:
            return None

    def finding(self, rule: Rule, mask: NDArray[np.bool_], what: str) -> Finding:
        """Returns a finding on some of the rows."""
        return Finding(rule, self.device, tuple(int(row) for row in self.rows[mask]), what)


def measured_columns(table: pa.Table) -> Iterator[MeasuredColumn]:
    """Yields the columns of a table, without rows that have no latency or that a measuring protocol has refused."""
    values = latencies_ms(table)
    names = ["device", *(name for name in _CONDITIONS if name in table.column_names)]
    keys = list(zip(*(table[name].to_pylist() for name in names), processors(table), strict=True))
    rows: dict[tuple[object, ...], list[int]] = {}
    judged = np.isfinite(values) & (values > 0) & ~refused(table)
    for row, key in enumerate(keys):
        if judged[row]:
            rows.setdefault(key, []).append(row)
    for key, members in rows.items():
        numbers = np.array(members)
        yield MeasuredColumn(str(key[0]), numbers, values[numbers], table)


def latencies_ms(table: pa.Table) -> Floats:
    """Returns milliseconds for each row, of its throughput where it has no latency; NaN where it has neither."""
    values = np.full(len(table), np.nan)
    if "latency_ms" in table.column_names:
        values = np.array(table["latency_ms"].to_pylist(), dtype=np.float64)
    if "throughput_ips" in table.column_names:
        throughput = np.array(table["throughput_ips"].to_pylist(), dtype=np.float64)
        with np.errstate(divide="ignore"):
            values = np.where(np.isnan(values), 1000 / throughput, values)
    return values


def refused(table: pa.Table) -> NDArray[np.bool_]:
    """Returns which rows a measuring protocol has refused."""
    if "verdict" not in table.column_names:
        return np.zeros(len(table), bool)
    return np.array([verdict == "refused" for verdict in table["verdict"].to_pylist()], dtype=bool)


def processors(table: pa.Table) -> list[str | None]:
    """Returns the processor of each row, as the ``environment`` of a measurement set tells it; None where none does."""
    if "environment" not in table.column_names:
        return [None] * len(table)
    return [_processor(text) for text in table["environment"].to_pylist()]


def number_of(cell: object) -> float | None:
    """Returns the number of a cell, be it written as text; None where it is empty, NaN or a word such as unknown."""
    try:
        number = float(str(cell))
    except ValueError:
        return None
    return None if np.isnan(number) else number


# Tables repeat the same few values thousands of times.
@lru_cache(maxsize=64)
def _processor(text: object) -> str | None:
    try:
        processor = Environment.from_json(str(text)).cpu
    except ValueError:
        return None
    return None if processor == NOT_STATED else processor


@lru_cache(maxsize=8192)
def _architecture(text: str | None, space: object) -> Architecture:
    architecture = decode_architecture(text, str(space))
    if is_vector(architecture):
        raise InputError("a vector of an unknown encoding has no layers")
    return architecture


@lru_cache
def _space(name: str) -> SearchSpace:
    if name not in list_spaces():
        raise InputError(f"no space named {name!r} ships")
    return load_space(name)
