from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latency_predictors.finding import Finding
from latency_predictors.lint import lint
from search_spaces.architecture import Architecture
from search_spaces.cost import network_cost
from search_spaces.encodings import encoding
from search_spaces.errors import InputError
from search_spaces.space import load_space

DATA = Path(__file__).parents[3] / "shared" / "data" / "device_latency"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared measurement tables are not here")
ROWS = 60


def table(latency_ms: list[float] | list[float | None] | None = None, **columns: object) -> pa.Table:
    """Returns a clean table of one phone, with columns replaced or added."""
    rng = np.random.default_rng(0)
    vectors = rng.integers(0, 3, (ROWS, 4))
    values = (
        list(np.exp(1 + 0.2 * vectors.sum(axis=1) + rng.normal(0, 0.02, ROWS))) if latency_ms is None else latency_ms
    )
    return pa.table(
        {"arch": [str(v.tolist()) for v in vectors], "device": ["phone"] * ROWS, "latency_ms": values} | columns
    )


def clean() -> list[float]:
    found: list[float] = table()["latency_ms"].to_pylist()
    return found


def rules(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.rule, finding.device) for finding in findings}


def test_a_clean_table_has_no_findings() -> None:
    assert lint(table(kind=["measured"] * ROWS, batch_size=[1] * ROWS)) == []


def test_sums_of_block_costs_are_found() -> None:
    vectors = [vector_of(text) for text in table()["arch"].to_pylist()]
    costs = np.random.default_rng(1).uniform(1, 2, (4, 3))
    sums = [sum(costs[place, op] for place, op in enumerate(vector)) for vector in vectors]
    (finding,) = lint(table(sums))
    assert finding.rule == "additive"
    assert finding.rows == tuple(range(ROWS))
    assert "added up, not measured" in finding.message


def vector_of(text: str) -> list[int]:
    return [int(part) for part in text.strip("[]").split(",")]


def test_whole_milliseconds_are_found_where_rounding_matters() -> None:
    assert rules(lint(table([float(round(v)) for v in clean()]))) >= {("whole_milliseconds", "phone")}
    assert lint(table([float(round(1000 * v)) for v in clean()])) == []


def test_seconds_among_milliseconds_are_found() -> None:
    values = clean()
    values[3] /= 1000
    values[40] /= 1000
    assert ("thousandth", (3, 40)) in [(finding.rule, finding.rows) for finding in lint(table(values))]


def test_networks_that_compute_nothing_are_found() -> None:
    values = clean()
    values[5] /= 100
    assert ("degenerate", (5,)) in [(finding.rule, finding.rows) for finding in lint(table(values))]


def test_a_whole_column_in_seconds_is_faster_than_its_device() -> None:
    space, public = load_space("fbnet"), encoding("fbnet")
    rng = np.random.default_rng(0)
    arch = [str(list(public.encode(space.sample(rng)))) for _ in range(ROWS)]
    seconds = list(rng.uniform(0.02, 0.03, ROWS))
    columns = {"arch": arch, "space": ["fbnet"] * ROWS, "device_class": ["phone"] * ROWS}
    (finding,) = lint(table(seconds, **columns))
    assert finding.rule == "impossible"
    assert "faster than any phone" in finding.message
    assert lint(table([1000 * value for value in seconds], **columns)) == []


def test_values_that_are_no_latency_are_found() -> None:
    values = clean()
    values[:3] = [0.0, -1.0, float("nan")]
    (finding,) = lint(table(values))
    assert (finding.rule, finding.rows) == ("impossible", (0, 1, 2))


def test_duplicates_that_disagree_are_found_and_others_are_not() -> None:
    once = table()
    again = once.set_column(2, "latency_ms", pa.array([v * (1.5 if i == 7 else 1.05) for i, v in enumerate(clean())]))
    findings = lint(pa.concat_tables([once.slice(0, 20), again.slice(0, 20)]))
    rows = {row for finding in findings if finding.rule == "disagreeing_duplicates" for row in finding.rows}
    arch = once["arch"].to_pylist()
    assert {7, 27} <= rows
    assert {arch[row % 20] for row in rows} == {arch[7]}


def test_rows_that_were_not_measured_are_found() -> None:
    (finding,) = lint(table(kind=["measured"] * 50 + ["simulated"] * 10))
    assert (finding.rule, finding.rows) == ("not_measured", tuple(range(50, 60)))


def test_rows_of_unknown_batch_size_beside_known_ones_are_found() -> None:
    (finding,) = lint(table(batch_size=[1] * 55 + [None] * 5))
    assert (finding.rule, finding.rows) == ("mixed_conditions", tuple(range(55, 60)))


def test_long_tails_and_scattered_runs_are_found() -> None:
    tail = table(p50_ms=clean(), p90_ms=[v * (2 if i == 1 else 1.1) for i, v in enumerate(clean())])
    assert [(f.rule, f.rows) for f in lint(tail)] == [("long_tail", (1,))]
    scattered = table(latency_var_ms2=[(v * (0.3 if i == 2 else 0.01)) ** 2 for i, v in enumerate(clean())])
    assert [(f.rule, f.rows) for f in lint(scattered)] == [("scattered", (2,))]


def test_rows_that_were_refused_when_measured_are_not_judged_again() -> None:
    values = [None, 0.001, *clean()[2:]]
    assert {row for finding in lint(table(values)) for row in finding.rows} == {0, 1}
    assert lint(table(values, verdict=["refused"] * 2 + ["accepted"] * (ROWS - 2))) == []


@pytest.mark.parametrize("missing", ["arch", "device", "latency_ms"])
def test_a_missing_column_is_named(missing: str) -> None:
    with pytest.raises(InputError, match=missing):
        lint(table().drop_columns([missing]))


PHONES = {"essential_ph_1", "samsung_a50", "samsung_s7"}


@needs_data
def test_every_trap_of_the_public_fbnet_table_is_found_and_nothing_else() -> None:
    summed = {"google_pixel_3", "raspberry_pi_4", "asic_eyeriss"}
    expected = {("whole_milliseconds", phone) for phone in PHONES}
    expected |= {(rule, device) for rule in ("additive", "not_measured") for device in summed}
    assert rules(lint(pq.read_table(DATA / "fbnet_help.parquet"))) == expected


@needs_data
def test_every_trap_of_the_public_cell_table_is_found_and_nothing_else() -> None:
    found = lint(pq.read_table(DATA / "nasbench201_help.parquet"))
    expected = {("whole_milliseconds", phone) for phone in PHONES}
    expected |= {("additive", "asic_eyeriss"), ("not_measured", "asic_eyeriss")}
    expected |= {("degenerate", "google_pixel_3"), ("degenerate", "raspberry_pi_4")}
    assert rules(found) == expected
    assert all(len(finding.rows) > 0.01 * 12033 for finding in found if finding.rule == "degenerate")


@needs_data
@pytest.mark.parametrize("file", ["ofa_mbv3_help", "nasbench201_edge_mixed"])
def test_clean_public_tables_raise_no_alarm(file: str) -> None:
    assert lint(pq.read_table(DATA / f"{file}.parquet")) == []


@needs_data
def test_disturbed_runs_and_cells_without_arithmetic_of_the_pi_table_are_found() -> None:
    found = rules(lint(pq.read_table(DATA / "nasbench201_pi5_pixel6a.parquet")))
    assert found == {
        ("degenerate", "raspberry_pi_5/litert"),
        ("degenerate", "google_pixel_6a/litert"),
        ("scattered", "raspberry_pi_5/litert"),
        ("scattered", "raspberry_pi_5/onnxruntime"),
    }


@needs_data
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("mnasnet_anb", {"scattered"}),
        ("published_mlperf_v30", {"long_tail"}),
        ("published_pixel_tables", {"not_measured"}),
        ("published_timm", set()),
        ("published_mlperf_tiny", set()),
    ],
)
def test_other_public_tables_have_only_the_traps_they_are_known_for(file: str, expected: set[str]) -> None:
    assert {finding.rule for finding in lint(pq.read_table(DATA / f"{file}.parquet"))} == expected


def sampled(count: int, seed: int = 0) -> tuple[list[Architecture], list[float]]:
    """Returns networks of the tiny space, and latencies that follow their arithmetic to 3 %."""
    rng, space = np.random.default_rng(seed), load_space("tiny")
    networks = [space.sample(rng) for _ in range(count)]
    macs = np.array([network_cost(space.layers(network)).macs for network in networks])
    return networks, list(0.005 + macs / 4e7 * np.exp(rng.normal(0, 0.03, count)))


def own_rows(latency_ms: list[float], networks: list[Architecture], **columns: object) -> pa.Table:
    """Returns rows as a measurement set of this product has them."""
    plain = {"space": ["tiny"] * len(networks), "arch": [network.to_json() for network in networks]}
    return pa.table(plain | {"device": ["local/litert"] * len(networks), "latency_ms": latency_ms} | columns)


@pytest.mark.parametrize("factor", [32.0, 4.0, 1 / 4])
def test_batches_under_the_label_of_single_images_are_found(factor: float) -> None:
    networks, values = sampled(30)
    assert lint(own_rows(values, networks, batch_size=[1] * 30)) == []
    mixed = [value * factor if row < 10 else value for row, value in enumerate(values)]
    found = lint(own_rows(mixed, networks, batch_size=[1] * 30))
    assert [(f.rule, f.rows) for f in found if f.rule == "mixed_conditions"] == [("mixed_conditions", tuple(range(10)))]
    assert any("10 of 30 rows are about" in f.what for f in found)


def test_cells_of_unknown_layers_that_differ_by_nature_are_no_mix_up() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.integers(0, 3, (ROWS, 4))
    values = np.where(vectors[:, 0] * vectors[:, 1] == 4, 4.0, 1.0) * np.exp(rng.normal(0, 0.02, ROWS))
    arch = [str(v.tolist()) for v in vectors]
    assert lint(table(list(values), arch=arch)) == []
    assert ("mixed_conditions", "phone") in rules(lint(table([*(32 * values[:15]), *values[15:]], arch=arch)))


@pytest.mark.parametrize("columns", [{}, {"device_class": ["a new class"] * ROWS}])
def test_seconds_are_found_without_the_class_of_the_device(columns: dict[str, object]) -> None:
    space, public = load_space("fbnet"), encoding("fbnet")
    rng = np.random.default_rng(0)
    arch = [str(list(public.encode(space.sample(rng)))) for _ in range(ROWS)]
    seconds = list(rng.uniform(0.02, 0.03, ROWS))
    (finding,) = lint(table(seconds, arch=arch, space=["fbnet"] * ROWS, **columns))
    assert finding.rule == "impossible"
    assert "faster than any device" in finding.message
    assert lint(table([1000 * value for value in seconds], arch=arch, space=["fbnet"] * ROWS, **columns)) == []


def test_a_measurement_set_in_seconds_is_found() -> None:
    networks, values = sampled(30)
    assert rules(lint(own_rows([value / 1000 for value in values], networks))) == {("impossible", "local/litert")}


def test_a_batch_size_that_is_not_known_does_not_stop_the_linter() -> None:
    space, public = load_space("fbnet"), encoding("fbnet")
    rng = np.random.default_rng(0)
    arch = [str(list(public.encode(space.sample(rng)))) for _ in range(ROWS)]
    columns = {"arch": arch, "space": ["fbnet"] * ROWS, "device_class": ["phone"] * ROWS}
    assert lint(table(list(rng.uniform(20, 30, ROWS)), batch_size=["unknown"] * ROWS, **columns)) == []


def test_rows_without_an_architecture_are_no_duplicates() -> None:
    assert "disagreeing_duplicates" not in {finding.rule for finding in lint(table(arch=[None] * ROWS))}


def session(
    reference_ms: list[float] | None = None, latency_ms: list[float] | None = None, **columns: object
) -> pa.Table:
    """Returns a clean table whose rows were measured one a minute."""
    told = {} if reference_ms is None else {"reference_ms": reference_ms}
    at = [datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=row) for row in range(ROWS)]
    return table(latency_ms, measured_at=at, **told, **columns)


def test_a_device_that_slows_down_during_the_session_is_found() -> None:
    steady = list(np.exp(np.random.default_rng(0).normal(0, 0.01, ROWS)))
    assert lint(session(steady)) == []
    slowing = [reading * (1 + 0.08 * row / ROWS) for row, reading in enumerate(steady)]
    (finding,) = lint(session(slowing))
    assert finding.rule == "session_drift"
    assert finding.rows == tuple(range(40, 60))
    assert "the reference network was up to" in finding.message
    assert "measure them again" in finding.message
    warmed_up = [reading * (1.04 if row < 20 else 1) for row, reading in enumerate(steady)]
    assert [f.rows for f in lint(session(warmed_up))] == [tuple(range(20))]


def test_rows_beside_a_reference_off_by_the_protocols_limit_are_found() -> None:
    readings = [1.0] * ROWS
    readings[7], readings[8] = 1.06, 1.04
    assert [(f.rule, f.rows) for f in lint(session(readings))] == [("session_drift", (7,))]


def test_networks_measured_again_tell_a_drift_where_there_is_no_reference() -> None:
    first, again = clean()[:30], clean()[:30]
    arch = table()["arch"].to_pylist()[:30] * 2
    noise = np.exp(np.random.default_rng(3).normal(0, 0.005, ROWS))
    assert lint(session(arch=arch, latency_ms=list(np.array(first + again) * noise))) == []
    slower = [1.08 * value for value in again]
    found = lint(session(arch=arch, latency_ms=list(np.array(first + slower) * noise)))
    assert [(f.rule, f.rows[-1]) for f in found] == [("session_drift", 59)]
    assert "networks that were measured again were" in found[0].what


def test_a_session_without_times_or_of_few_rows_is_not_judged_for_lasting_drift() -> None:
    slowing = [1 + 0.08 * row / ROWS for row in range(ROWS)]
    assert lint(table(reference_ms=slowing)) == []
    assert lint(session(slowing).slice(0, 11)) == []
