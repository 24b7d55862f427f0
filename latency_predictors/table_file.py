"""Tables of measurements as files of others: Parquet, CSV or JSON lines with the columns of the shared schema.

``arch`` is text in the table that is returned, whatever the file holds: a list of integers stands there as
``[3,0,1]``. Latencies are in milliseconds there, whatever unit the file has.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from search_spaces.errors import InputError

LatencyUnit = Literal["ms", "s", "us"]
_IN_MS: dict[LatencyUnit, float] = {"ms": 1.0, "s": 1000.0, "us": 0.001}


def read_table(path: Path, *, latency_unit: LatencyUnit = "ms") -> pa.Table:
    """Returns the table of a file.

    Args:
        path: ends with ``.parquet``, ``.csv``, ``.jsonl`` or ``.ndjson``.
        latency_unit: of the column ``latency_ms`` in the file.

    Raises:
        InputError: no such file, another format or unit, a damaged file, or costs that are no numbers.
    """
    if latency_unit not in get_args(LatencyUnit):
        raise InputError(f"a latency unit must be one of {', '.join(get_args(LatencyUnit))}, got {latency_unit!r}")
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise InputError(f"a table of measurements ends with {', '.join(_READERS)}, got {str(path)!r}")
    try:
        table = reader(io.BytesIO(path.read_bytes()))
    except OSError as error:  # of the file system, or of Parquet
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    except (pa.ArrowException, ValueError) as error:
        raise InputError(f"{path} is no {path.suffix} table: {str(error).splitlines()[0]}") from None
    if "arch" in table.column_names:
        table = _replace(table, "arch", _texts(table["arch"]))
    for name in ("latency_ms", "throughput_ips", "energy_mj", "peak_memory_mb"):
        if name in table.column_names:
            table = _replace(table, name, _numbers(table[name], name, path))
    if latency_unit != "ms" and "latency_ms" in table.column_names:
        table = _replace(table, "latency_ms", pc.multiply(table["latency_ms"], _IN_MS[latency_unit]))
    return table


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    cells = column.to_pylist()
    return pa.chunked_array([pa.array([cell if cell is None else json.dumps(cell) for cell in cells], pa.string())])


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    try:
        return pc.cast(column, pa.float64())
    except pa.ArrowException as error:
        raise InputError(f"{path}: {name} must be numbers ({str(error).splitlines()[0]})") from None


def _replace(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


_READERS: dict[str, Callable[[io.BytesIO], pa.Table]] = {
    ".parquet": pa.parquet.read_table,
    ".csv": pa.csv.read_csv,
    ".jsonl": pa.json.read_json,
    ".ndjson": pa.json.read_json,
}
