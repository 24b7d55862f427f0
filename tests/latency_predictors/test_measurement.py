import dataclasses
from datetime import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_predictors.environment import Environment
from latency_predictors.measurement import SCHEMA, DeviceProfile, Measurement
from search_spaces.errors import InputError
from tests.latency_predictors.rows import make_measurement, make_refused


def test_a_profile_reads_as_device_precision_and_threads() -> None:
    assert DeviceProfile("local/onnxruntime", "fp32", 2).id == "local/onnxruntime/fp32/2-threads"
    assert DeviceProfile("local/litert", "int8", 1).id == "local/litert/int8/1-thread"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": ""}, "must have a name"),
        ({"precision": "int4"}, "precision must be one of fp32, fp16, int8, got 'int4'"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_a_profile_refuses_what_no_device_has(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(DeviceProfile("local/litert"), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "fine"}, "verdict must be one of"),
        ({"verdict": "noisy"}, "has a reason"),
        ({"reason": "too wide"}, "has a reason"),
        ({"latency_ms": None}, "no latency"),
        ({"latency_ms": 3.0}, "must lie in"),
        ({"p90_ms": 0.0}, "p90_ms must be above zero"),
        ({"load_ms": float("nan")}, "load_ms must be above zero"),
        ({"block_medians_ms": (1.0, -1.0)}, "block medians must be above zero"),
        ({"key": "other"}, "the architecture's key is"),
        ({"measured_at": datetime(2026, 1, 1)}, "time zone"),
    ],
)
def test_a_measurement_refuses_what_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_measurement(), **change)  # type: ignore[arg-type]


@given(
    st.lists(st.floats(0.001, 1e5), min_size=1, max_size=15),
    st.floats(0.001, 1e5),
    st.sampled_from(["accepted", "noisy", "refused"]),
)
def test_rows_come_back_from_the_parquet_columns_as_they_were(medians: list[float], load_ms: float, name: str) -> None:
    measurement = dataclasses.replace(
        make_measurement(),
        block_medians_ms=tuple(medians),
        load_ms=load_ms,
        verdict=name,  # type: ignore[arg-type]
        reason="" if name == "accepted" else "busy",
    )
    table = pa.Table.from_pylist([measurement.to_row(), make_refused().to_row()], schema=SCHEMA)
    assert [Measurement.from_row(row) for row in table.to_pylist()] == [measurement, make_refused()]


def test_a_row_has_the_columns_that_latency_tables_commonly_have() -> None:
    row = make_measurement().to_row()
    assert set(row) == set(SCHEMA.names)
    assert {name: row[name] for name in ("space", "device", "precision", "batch_size", "kind")} == {
        "space": "tiny", "device": "local/onnxruntime", "precision": "int8", "batch_size": 1, "kind": "measured",
    }  # fmt: skip


def test_the_environment_hash_changes_with_every_part() -> None:
    environment = make_measurement().environment
    hashes = {environment.hash}
    for field in dataclasses.fields(Environment):
        other = 7 if field.name == "cores" else "other"
        hashes.add(dataclasses.replace(environment, **{field.name: other}).hash)  # type: ignore[arg-type]
    assert len(hashes) == 1 + len(dataclasses.fields(Environment))
    assert Environment.from_json(environment.to_json()).hash == environment.hash


@pytest.mark.parametrize("text", ["[]", '{"cpu": "x"}', '{"cpu": "", "cores": 1}', "nonsense"])
def test_a_text_that_is_no_environment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="environment"):
        Environment.from_json(text)
