import dataclasses
import multiprocessing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latency_predictors.measurement import SCHEMA
from latency_predictors.store import MeasurementSet, parquet_bytes
from search_spaces.errors import InputError
from tests.latency_predictors.rows import make_measurement, make_refused


def test_rows_come_back_in_the_order_they_were_added(tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "new" / "cpu.parquet")
    store.append([make_measurement(3), make_refused()])
    store.append([])
    store.append([make_measurement(5)])
    assert store.read() == [make_measurement(3), make_refused(), make_measurement(5)]


def test_usable_rows_are_the_last_accepted_or_noisy_one_of_each_network(tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    noisy = dataclasses.replace(make_measurement(3), verdict="noisy", reason="wide")
    store.append([noisy, make_measurement(5), make_refused(), make_measurement(3)])
    assert store.read_usable() == [make_measurement(3), make_measurement(5)]


def _append_some(path: Path, kernel: int) -> None:
    for _ in range(5):
        MeasurementSet(path).append([make_measurement(kernel)])


def test_processes_that_add_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cpu.parquet"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_some, args=(path, kernel)) for kernel in (3, 5, 7)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    rows = MeasurementSet(path).read()
    assert sorted(row.network_hash for row in rows) == sorted(make_measurement(k).network_hash for k in (3, 5, 7) * 5)


def test_a_torn_file_is_reported_and_not_written_over(tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    store.append([make_measurement(3)])
    whole = store.path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        store.path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cpu\.parquet is damaged or not Parquet \(.+\); restore it"):
            store.read()
        with pytest.raises(InputError, match="damaged"):
            store.append([make_measurement(5)])
        assert store.path.read_bytes() == whole[:length]


def test_a_changed_byte_anywhere_is_noticed(tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    store.append([make_measurement(3)] * 50)
    whole = store.path.read_bytes()
    # Pages, their headers, and the footer, which Parquet itself has no checksum for.
    for place in range(4, len(whole), len(whole) // 60):
        store.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match="damaged"):
            store.read()


def test_a_set_without_a_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cpu.parquet"
    pq.write_table(pa.Table.from_pylist([make_measurement(3).to_row()], schema=SCHEMA), path)
    with pytest.raises(InputError, match="has no checksum"):
        MeasurementSet(path).read()


def test_a_foreign_table_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "fbnet.parquet"
    pq.write_table(pa.table({"arch": ["[1, 2]"], "latency_ms": [1.0]}), path)
    with pytest.raises(InputError, match="is not a measurement set of this product"):
        MeasurementSet(path).read()


def test_a_set_of_a_later_format_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "later.parquet"
    pq.write_table(SCHEMA.with_metadata({"hwnas_measurements": "2"}).empty_table(), path)
    with pytest.raises(InputError, match="a measurement set of format 2; this version reads format 1"):
        MeasurementSet(path).read()


def test_a_missing_optional_column_reads_as_empty_and_a_missing_required_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cpu.parquet"
    table = pa.Table.from_pylist([make_measurement(3).to_row()], schema=SCHEMA)
    path.write_bytes(parquet_bytes(table.drop_columns(["quiet_share"])))
    assert MeasurementSet(path).read() == [dataclasses.replace(make_measurement(3), quiet_share=None)]
    path.write_bytes(parquet_bytes(table.drop_columns(["verdict"])))
    with pytest.raises(InputError, match="columns are not those of a measurement set: verdict"):
        MeasurementSet(path).read()


def test_an_impossible_value_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "cpu.parquet"
    rows = [make_measurement(3).to_row(), {**make_measurement(5).to_row(), "latency_ms": -1.0}]
    path.write_bytes(parquet_bytes(pa.Table.from_pylist(rows, schema=SCHEMA)))
    with pytest.raises(InputError, match=r"cpu\.parquet, row 2: .* latency_ms must be above zero, got -1\.0"):
        MeasurementSet(path).read()


def test_a_missing_set_and_a_wrong_ending_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no measurement set at"):
        MeasurementSet(tmp_path / "none.parquet").read()
    with pytest.raises(InputError, match=r"a measurement set is a \.parquet file, got"):
        MeasurementSet(tmp_path / "rows.csv")
