import pyarrow as pa
import pytest

from latency_predictors.device_columns import complete_rows, device_columns, device_family
from latency_predictors.environment import Environment
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


def test_a_throughput_stands_in_for_a_latency_that_is_no_number() -> None:
    (column,), _ = device_columns(
        [pa.Table.from_pylist(rows("gpu", {"[1]": float("nan"), "[2]": 4.0}, throughput_ips=500.0))], "cells"
    )
    assert list(column.values.values()) == [2.0, 4.0]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_is_part_of_the_profile(precision: str) -> None:
    (column,), _ = device_columns(
        [pa.Table.from_pylist(rows("gpu", {"[1]": 1.0}, precision=precision, threads="2"))], "cells"
    )
    assert column.profile == f"gpu/{precision}/2-threads"


def test_rows_of_networks_that_cannot_be_built_are_left_out() -> None:
    found = [*rows("phone", {"[1]": 1.0, "resnet50": 2.0}), {"arch": None, "device": "phone", "latency_ms": 1.0}]
    (column,), _ = device_columns([pa.Table.from_pylist(found)], "cells")
    assert list(column.values.values()) == [1.0]


@pytest.mark.parametrize(
    ("device", "family"),
    [
        ("ssh/pi4/litert", "ssh/pi4"),
        ("ssh/jetson/litert", "ssh/jetson"),
        ("ssh/pi4/onnxruntime", "ssh/pi4"),
        ("adb/R58M12/litert", "adb/R58M12"),
        ("local/litert", "local"),
        ("cuda/torch", "cuda"),
        ("raspberry_pi_5/litert", "raspberry_pi_5"),
        ("nvidia_v100_bs64", "nvidia_v100"),
    ],
)
def test_a_family_is_a_machine(device: str, family: str) -> None:
    assert device_family(device) == family


def test_machines_of_one_name_stay_apart_where_their_processor_is_told() -> None:
    def on(cpu: str) -> str:
        return Environment(cpu, 2, "x86_64", "Linux 6", "3.11.7", "LiteRT 1").to_json()

    found = [
        *rows("local/litert", {"[1]": 1.0}, environment=on("Intel(R) Xeon(R) 8480")),
        *rows("local/litert", {"[1]": 3.0}, environment=on("AMD EPYC 7B13")),
        *rows("local/onnxruntime", {"[1]": 2.0}, environment=on("AMD EPYC 7B13")),
    ]
    columns, findings = device_columns([pa.Table.from_pylist(found)], "cells")
    assert findings == []
    assert [column.name for column in columns] == [
        "local/litert/Intel_R_Xeon_R_8480",
        "local/litert/AMD_EPYC_7B13",
        "local/onnxruntime",
    ]
    assert [list(column.values.values()) for column in columns] == [[1.0], [3.0], [2.0]]
    assert columns[1].family == columns[2].family != columns[0].family
