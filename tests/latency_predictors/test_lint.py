from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latency_predictors.finding import Finding
from latency_predictors.lint import lint
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
