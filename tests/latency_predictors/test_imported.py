from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from latency_predictors.architecture_cell import UnknownNetworkError, decode_architecture
from latency_predictors.imported import import_table
from latency_predictors.measurement import Measurement
from search_spaces.cost import network_cost
from search_spaces.encodings import encoding
from search_spaces.errors import InputError
from search_spaces.published import published
from search_spaces.space import load_space

AT = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 40


def table(**columns: object) -> pa.Table:
    rng = np.random.default_rng(0)
    vectors = [encoding("fbnet").encode(load_space("fbnet").sample(rng)) for _ in range(ROWS)]
    values = (10 + rng.uniform(0, 5, ROWS)).tolist()
    plain = {"arch": [str(list(v)) for v in vectors], "device": ["phone"] * ROWS, "latency_ms": values}
    return pa.table(plain | {"space": ["fbnet"] * ROWS, "precision": ["int8"] * ROWS} | columns)


def imported(**columns: object) -> tuple[Measurement, ...]:
    return import_table(table(**columns), "a table", AT).measurements


def test_a_clean_row_becomes_an_accepted_measurement_of_its_architecture() -> None:
    first = imported(threads=[4] * ROWS, runtime=["litert"] * ROWS)[0]
    assert first.verdict == "accepted"
    assert first.profile.id == "phone/int8/4-threads"
    assert (first.latency_ms, first.lower_ms, first.upper_ms) == (table()["latency_ms"][0].as_py(),) * 3
    assert first.architecture is not None
    assert load_space("fbnet").contains(first.architecture)
    assert (first.preset, first.protocol_version, first.runtime, first.measured_at) == ("imported", 0, "litert", AT)
    assert first.environment.system == "imported from a table"


def test_every_row_is_kept_and_what_not_to_learn_from_is_refused_with_the_reason() -> None:
    values = table()["latency_ms"].to_pylist()
    values[3], values[5] = values[3] / 1000, -1.0
    rows = imported(latency_ms=values, kind=["measured"] * 39 + ["simulated"], batch_size=[1] * 38 + [32, 1])
    assert len(rows) == ROWS
    assert {n: row.reason.split(":")[0] for n, row in enumerate(rows) if row.verdict == "refused"} == {
        3: "thousandth",
        5: "impossible",
        38: "a batch of 32 images, not one",
        39: "not_measured",
    }
    assert rows[5].latency_ms is None


def test_energy_and_memory_come_with_the_latency_where_the_table_has_them() -> None:
    first = imported(energy_mj=[3] * ROWS, peak_memory_mb=[1.5] * ROWS)[0]
    assert (first.energy_mj, first.energy_source, first.peak_memory_mb) == (3, "not stated", 1.5)
    assert imported()[0].energy_mj is None
    with pytest.raises(InputError, match=r"a table, row 0: .*: energy_mj must be above zero, got -3"):
        imported(energy_mj=[-3.0] * ROWS)


def test_rounded_rows_are_noisy_by_half_a_millisecond() -> None:
    rows = imported(latency_ms=[float(round(v)) for v in table()["latency_ms"].to_pylist()])
    assert {row.verdict for row in rows} == {"noisy"}
    assert all(row.upper_ms - row.latency_ms == 0.5 == row.latency_ms - row.lower_ms for row in rows)  # type: ignore[operator]


def test_scatter_becomes_the_interval() -> None:
    row = imported(latency_var_ms2=[4.0] * ROWS)[0]
    assert row.verdict == "noisy"
    assert row.upper_ms - row.latency_ms == pytest.approx(1.96 * 2)  # type: ignore[operator]


def test_an_unknown_vector_is_an_architecture_of_places() -> None:
    architecture = decode_architecture("[3, 0, 12]", "nasbench201")
    assert architecture.values == (("place00", 3), ("place01", 0), ("place02", 12))
    assert decode_architecture(architecture.to_json(), "nasbench201") == architecture


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"precision": ["unknown"] * ROWS}, "row 0: its precision is not stated: give --precision"),
        ({"precision": ["fp8"] * ROWS}, "row 0: its precision is fp8"),
        ({"space": [None] * ROWS}, "row 0: no column names its space: give --space"),
        ({"arch": ["[1, 2]"] * ROWS}, "row 0: a vector of 'fbnet' must have 22 integers, got 2"),
        ({"arch": ["resnet50"] * ROWS}, "row 0: an architecture must be a JSON list of integers, got 'resnet50'"),
    ],
)
def test_a_row_that_does_not_say_enough_is_named(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        imported(**change)


def test_options_say_what_columns_do_not() -> None:
    bare = table().drop_columns(["space", "precision"])
    row = import_table(bare, "a table", AT, space="fbnet", precision="fp32", threads=2).measurements[0]
    assert row.profile.id == "phone/fp32/2-threads"
    assert row.architecture is not None
    assert row.architecture.space == "fbnet"


def test_a_batch_size_may_be_text_or_unknown() -> None:
    rows = imported(batch_size=["1", "unknown", "", "32", *[None] * (ROWS - 4)])
    assert {number: row.reason for number, row in enumerate(rows) if row.reason.startswith("a batch")} == {
        3: "a batch of 32 images, not one"
    }
    assert rows[0].verdict == "accepted"


def test_a_throughput_stands_in_for_a_latency_that_is_no_number() -> None:
    (first, *_) = imported(latency_ms=[float("nan")] * ROWS, throughput_ips=[100.0 + n for n in range(ROWS)])
    assert first.latency_ms == 10
    assert first.verdict == "accepted"


def test_figures_that_are_no_numbers_count_as_not_stated() -> None:
    nothing = [float("nan")] * ROWS
    row = imported(energy_mj=nothing, peak_memory_mb=nothing, threads=nothing, latency_var_ms2=nothing)[0]
    assert (row.energy_mj, row.energy_source, row.peak_memory_mb, row.profile.threads) == (None, None, None, 1)
    assert row.lower_ms == row.latency_ms


def test_rows_of_networks_that_cannot_be_built_are_refused_and_the_others_imported() -> None:
    arch, space = table()["arch"].to_pylist(), ["fbnet"] * ROWS
    arch[:3] = [None, "resnet50", '{"family":"mobilenet_v1","variant":null,"width":0.25,"resolution":160}']
    space[1:3] = ["timm_mobile", "published_mobile"]
    found = import_table(table(arch=arch, space=space), "a table", AT)
    assert [row.verdict for row in found.measurements] == ["refused"] * 3 + ["accepted"] * (ROWS - 3)
    assert [row.key for row in found.measurements[:2]] == ["not stated", "resnet50"]
    assert "it does not say its architecture" in found.measurements[0].reason
    assert "no shipped space has its network, 'resnet50'" in found.measurements[1].reason
    (finding,) = found.findings
    assert (finding.rule, finding.rows) == ("unknown_network", (0, 1, 2))


B0 = '{"family":"efficientnet","variant":"b0","width":null,"resolution":224}'
LITE0 = '{"family":"efficientnet_lite","variant":"lite0","width":1.0,"resolution":224}'


@pytest.mark.parametrize(
    ("text", "name"), [("efficientnet_b0", "efficientnet_b0"), (B0, "efficientnet_b0"), (LITE0, "efficientnet_lite0")]
)
def test_a_published_network_becomes_the_same_network_of_a_shipped_space(text: str, name: str) -> None:
    architecture = decode_architecture(text, "published_mobile", 224 if text == name else None)
    space = load_space(architecture.space)
    assert space.contains(architecture)
    cost = network_cost(space.layers(architecture))
    assert cost.parameters == published(name).parameters
    assert cost.macs == network_cost(published(name).layers).macs


@pytest.mark.parametrize(
    ("text", "side"), [("efficientnet_b0", 240), (B0.replace("224", "240"), None), (B0.replace("null", "0.5"), None)]
)
def test_another_size_of_a_published_network_is_another_network(text: str, side: int | None) -> None:
    with pytest.raises(UnknownNetworkError):
        decode_architecture(text, "published_mobile", side)


def test_a_precision_that_is_not_known_here_is_what_the_option_says() -> None:
    found = import_table(table(precision=["amp_fp16", "int8"] * (ROWS // 2)), "a table", AT, precision="fp16")
    assert [row.profile.precision for row in found.measurements[:2]] == ["fp16", "int8"]
