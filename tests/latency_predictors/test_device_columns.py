import pyarrow as pa
import pytest

from latency_predictors.device_columns import complete_rows, device_columns
from search_spaces.errors import InputError


def rows(device: str, values: dict[str, float], **columns: object) -> list[dict[str, object]]:
    return [{"arch": arch, "device": device, "latency_ms": value, **columns} for arch, value in values.items()]


def test_the_conditions_that_differ_are_part_of_a_device_name() -> None:
    same = {"batch_size": 1}
    found = [
        *rows("board", {"[1]": 1.0}, runtime="litert", precision="fp32", **same),
        *rows("board", {"[1]": 2.0}, runtime="onnx", precision="fp32", **same),
        *rows("phone", {"[1]": 3.0}, runtime="litert", precision="int8", **same),
    ]
    columns, _ = device_columns([pa.Table.from_pylist(found)], "cells")
    assert [column.name for column in columns] == ["board/litert", "board/onnx", "phone"]
    assert [column.profile for column in columns] == [
        "board/fp32/1-thread",
        "board/fp32/1-thread",
        "phone/int8/1-thread",
    ]
    assert [column.family for column in columns] == ["board", "board", "phone"]


def test_rows_that_were_not_measured_or_were_refused_are_left_out_and_repeats_count_once() -> None:
    found = [
        *rows("phone", {"[1]": 1.0, "[2]": -1.0}, kind="measured", verdict="accepted"),
        *rows("phone", {"[1]": 1.1}, kind="measured", verdict="noisy"),
        *rows("phone", {"[3]": 2.0}, kind="simulated", verdict="accepted"),
        *rows("phone", {"[4]": 2.0}, kind="measured", verdict="refused"),
    ]
    (column,), findings = device_columns([pa.Table.from_pylist(found)], "cells")
    assert list(column.values.values()) == [pytest.approx(1.05)]
    assert {finding.rule for finding in findings} == {"impossible", "not_measured"}


def test_only_networks_of_every_device_are_complete() -> None:
    found = rows("phone", {"[1]": 1.0, "[2]": 2.0}) + rows("board", {"[2]": 4.0, "[3]": 5.0})
    columns, _ = device_columns([pa.Table.from_pylist(found)], "cells")
    (network,), values = complete_rows(columns)
    assert network.values == (("place00", 2),)
    assert values.tolist() == [[2.0, 4.0]]


def test_vectors_of_no_space_are_refused() -> None:
    with pytest.raises(InputError, match="no column names the space"):
        device_columns([pa.Table.from_pylist(rows("phone", {"[1]": 1.0}))])


def test_rows_that_tell_their_interval_tell_their_noise() -> None:
    found = rows("phone", {"[1]": 1.0}, upper_ms=1.196) + rows("phone", {"[2]": 2.0}, upper_ms=None)
    (column,), _ = device_columns([pa.Table.from_pylist(found)], "cells")
    assert list(column.noise.values()) == [pytest.approx(0.1), 0.0]


def test_another_metric_leaves_out_the_rows_that_do_not_have_it() -> None:
    found = [
        row | {"energy_mj": energy}
        for row, energy in zip(rows("phone", {"[1]": 1.0, "[2]": 2.0, "[3]": 3.0}), (7.0, None, 0.0), strict=True)
    ]
    (column,), _ = device_columns([pa.Table.from_pylist(found)], "cells", "energy_mj")
    assert {network.values[0][1]: value for network, value in column.values.items()} == {1: 7.0}
    assert device_columns([pa.Table.from_pylist(rows("phone", {"[1]": 1.0}))], "cells", "peak_memory_mb")[0] == []
