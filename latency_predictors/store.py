"""A measurement set on disk: one Parquet file that rows are added to and never leave."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from latency_predictors.measurement import FORMAT_VERSION, SCHEMA, Measurement
from search_spaces.atomic import write_bytes
from search_spaces.errors import InputError
from search_spaces.file_lock import hold


@dataclass(frozen=True)
class MeasurementSet:
    """The measurements of a Parquet file, in the order they were added.

    Adding rows replaces the file by a longer one, atomically and under a lock: a reader or a crash at any moment finds
    the old set or the new one, and two processes may add at the same time. Pages carry checksums, so a damaged file is
    noticed, and it is never written over.

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
            buffer = io.BytesIO()
            pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
            write_bytes(self.path, buffer.getvalue())

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
            table = pq.read_table(io.BytesIO(self.path.read_bytes()), page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            detail = str(error).splitlines()[0]
            raise InputError(f"{self.path} is damaged or not Parquet ({detail}); restore it or move it away") from None
        version = (table.schema.metadata or {}).get(b"hwnas_measurements", b"").decode()
        if version != FORMAT_VERSION:
            found = f"a measurement set of format {version}" if version else "not a measurement set of this product"
            raise InputError(f"{self.path} is {found}; this version reads format {FORMAT_VERSION}")
        for column in SCHEMA:
            if column.nullable and column.name not in table.column_names:
                table = table.append_column(column, pa.nulls(len(table), column.type))
        wrong = [column.name for column in SCHEMA if column.name not in table.column_names]
        wrong += [column.name for column in table.schema if column.name not in SCHEMA.names]
        wrong = wrong or [column.name for column in SCHEMA if table.schema.field(column.name).type != column.type]
        if wrong:
            raise InputError(f"{self.path}: columns are not those of a measurement set: {', '.join(wrong)}")
        return table.select(SCHEMA.names).cast(SCHEMA)
