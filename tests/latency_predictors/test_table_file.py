import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from latency_predictors.table_file import read_table
from search_spaces.errors import InputError

ROWS = [{"arch": [3, n, 0], "device": "phone", "latency_ms": 1.5 + n} for n in range(4)]


def write(path: Path) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        return path
    table = pa.Table.from_pylist([row | {"arch": json.dumps(row["arch"])} for row in ROWS])
    (pq.write_table if path.suffix == ".parquet" else pa.csv.write_csv)(table, path)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_every_format_gives_the_same_table(suffix: str, tmp_path: Path) -> None:
    table = read_table(write(tmp_path / f"table{suffix}"))
    assert [json.loads(text) for text in table["arch"].to_pylist()] == [row["arch"] for row in ROWS]
    assert table["latency_ms"].to_pylist() == [1.5, 2.5, 3.5, 4.5]


def test_latencies_of_other_units_become_milliseconds(tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv")
    assert read_table(path, latency_unit="s")["latency_ms"].to_pylist() == [1500, 2500, 3500, 4500]
    assert read_table(path, latency_unit="us")["latency_ms"].to_pylist() == pytest.approx(
        [0.0015, 0.0025, 0.0035, 0.0045]
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.csv", None, "none.csv cannot be read: .*No such file"),
        ("table.xlsx", b"", "ends with .parquet, .csv, .jsonl, .ndjson, got '.*table.xlsx'"),
        ("table.parquet", b"not Parquet", "table.parquet is no .parquet table"),
        ("table.jsonl", b'{"arch": [1', "table.jsonl is no .jsonl table"),
        ("table.csv", b"", "table.csv is no .csv table"),
        ("table.csv", b"arch,device,latency_ms\n[1],phone,fast\n", "latency_ms must be numbers"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(
    name: str, content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_unit_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a latency unit must be one of ms, s, us, got 'h'"):
        read_table(tmp_path / "table.csv", latency_unit="h")  # type: ignore[arg-type]
