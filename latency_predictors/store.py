"""A measurement set on disk: one Parquet file that rows are added to and never leave."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from latency_predictors.measurement import FORMAT_VERSION, SCHEMA, Measurement
from search_spaces.atomic import write_bytes
from search_spaces.checksum import BLANK, has_checksum, verify_checksum, with_checksum
from search_spaces.errors import InputError
from search_spaces.file_lock import hold


@dataclass(frozen=True)
class MeasurementSet:
    """The measurements of a Parquet file, in the order they were added.

    Adding rows replaces the file by a longer one, atomically and under a lock: a reader or a crash at any moment finds
    the old set or the new one, and two processes may add at the same time. The file carries its checksum, so damage is
    noticed, and a damaged file is never written over.

    Attributes:
        path: ends with ``.parquet``; made by the first `append`.
    """

    path: Path

    def __post_init__(self) -> None:
        if self.path.suffix != ".parquet":
            raise InputError(f"a measurement set is a .parquet file, got {str(self.path)!r}")

    def append(self, rows: Sequence[Measurement]) -> None:
        """Adds rows; they are on disk when this returns.

        Raises:
            InputError: the file exists and is damaged or not a measurement set; it stays as it is.
            OSError: the disk refuses; the old set stays.
        """
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The set itself is replaced by every append, so a file beside it is locked.
        with hold(self.path.with_name(f".{self.path.name}.lock"), wait=True):
            added = pa.Table.from_pylist([row.to_row() for row in rows], schema=SCHEMA)
            table = pa.concat_tables([self._table(), added]) if self.path.exists() else added
            write_bytes(self.path, parquet_bytes(table))

    def read(self) -> list[Measurement]:
        """Returns every row, refused ones included.

        Raises:
            InputError: no such file, a damaged one, or one that is not a measurement set.
        """
        measurements = []
        for number, row in enumerate(self._table().to_pylist(), start=1):
            try:
                measurements.append(Measurement.from_row(row))
            except ValueError as error:
                raise InputError(f"{self.path}, row {number}: {error}") from None
        return measurements

    def read_usable(self) -> list[Measurement]:
        """Returns the accepted and noisy rows, of each network on each profile the last one.

        Raises:
            InputError: as `read`.
        """
        return list({(row.network_hash, row.profile): row for row in self.read() if row.usable}.values())

    def _table(self) -> pa.Table:
        if not self.path.is_file():
            raise InputError(f"no measurement set at {self.path}; `nas latency measure --out {self.path}` makes one")
        try:
            # Read at once: a file that is replaced while it is read is read whole.
            data = self.path.read_bytes()
            if has_checksum(data):  # what has none may be a table of somebody else's, and is named as such below
                verify_checksum(data)
            table = pq.read_table(io.BytesIO(data))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from None
        version = (table.schema.metadata or {}).get(b"hwnas_measurements", b"").decode()
        if version != FORMAT_VERSION:
            found = f"a measurement set of format {version}" if version else "not a measurement set of this product"
            raise InputError(f"{self.path} is {found}; this version reads format {FORMAT_VERSION}")
        try:
            verify_checksum(data)
        except ValueError as error:
            raise self._damaged(error) from None
        for column in SCHEMA:
            if column.nullable and column.name not in table.column_names:
                table = table.append_column(column, pa.nulls(len(table), column.type))
        wrong = [column.name for column in SCHEMA if column.name not in table.column_names]
        wrong += [column.name for column in table.schema if column.name not in SCHEMA.names]
        wrong = wrong or [column.name for column in SCHEMA if table.schema.field(column.name).type != column.type]
        if wrong:
            raise InputError(f"{self.path}: columns are not those of a measurement set: {', '.join(wrong)}")
        return table.select(SCHEMA.names).cast(SCHEMA)

    def _damaged(self, error: Exception) -> InputError:
        detail = str(error).splitlines()[0]
        return InputError(f"{self.path} is damaged or not Parquet ({detail}); restore it or move it away")


def parquet_bytes(table: pa.Table) -> bytes:
    """Returns the Parquet file of a table, with its checksum."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"checksum": BLANK})
    return with_checksum(buffer.getvalue())
