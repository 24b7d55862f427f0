"""Latency, memory and energy side by side in one search: measured here, or fitted from rows of others."""

from pathlib import Path

import pytest

from latency_predictors import session
from latency_predictors.store import MeasurementSet
from nas import api
from nas.api.latency import distinct_networks
from nas.api.run_predictors import predictors_of
from nas.errors import InputError
from nas.run import Run
from search_spaces.space import load_space
from tests.latency_predictors.devices.simulated import REFERENCE, SimulatedDevice
from tests.latency_predictors.roofline import roofline_ms
from tests.nas.test_config import DIGITS

SPACE = load_space("tiny").with_data(image_channels=1, classes=10)
TERMS = "objectives=[accuracy,latency_ms@cpu,energy_mj@cpu]"
BOUND = "constraints=[peak_memory_mb@cpu <= 50]"


def started(tmp_path: Path, terms: tuple[str, ...] = (TERMS, BOUND)) -> Run:
    small = ("accuracy.epochs=1", "data.max_images=200", "search.budget=4", "ray.executor=serial", "latency.count=18")
    return api.start(DIGITS, (f"runs_dir={tmp_path}", *terms, "search.sampler=random", *small))


def test_energy_that_the_preset_does_not_measure_is_told_before_training(tmp_path: Path) -> None:
    run = started(tmp_path)
    with pytest.raises(InputError, match=r"energy_mj@cpu has no predictor, and latency.preset: quick measures") as told:
        api.search(run)
    assert f"--metric energy_mj --name cpu.energy_mj --store {run.predictors_dir}" in str(told.value)
    assert not run.supernet_dir.exists()


def measured_elsewhere(folder: Path) -> Path:
    """Returns a set of 30 networks of a board, with energy; latency follows a roofline."""
    table = folder / "board.csv"
    networks = distinct_networks(SPACE, 30, seed=5)
    lines = [
        f'"{one.to_json().replace(chr(34), chr(34) * 2)}",tiny,board,int8,{ms},{3 * ms}'
        for (one, _), ms in zip(networks, roofline_ms([layers for _, layers in networks]), strict=True)
    ]
    table.write_text("arch,space,device,precision,latency_ms,energy_mj\n" + "\n".join(lines))
    api.import_latency(table, folder / "board.parquet")
    return folder / "board.parquet"


def test_a_front_tells_how_likely_each_network_keeps_a_bound_on_a_predicted_cost(tmp_path: Path) -> None:
    bound = "latency_ms@cpu <= 1"
    run = started(tmp_path, ("objectives=[accuracy,latency_ms@cpu]", f"constraints=[{bound},parameters <= 60000]"))
    api.fit_latency(measured_elsewhere(tmp_path), "cpu", run.predictors_dir)
    api.search(run)
    front = api.front(run.path)
    assert front.best
    assert all(point.probabilities.keys() == {bound} for point in front.points)
    assert all(0.5 < point.probabilities[bound] < 1 for point in front.best)
    assert all(row[f"P({bound})"] in ("0.98", "0.99") for row in api.front_rows(front))


def test_a_predictor_is_fitted_though_a_busy_machine_refused_too_much_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def quiet(launch: int, path: Path) -> bool:
        return path == REFERENCE or "again" in "".join(told) or sum(path.stem.encode()) % 3 == 0

    device = SimulatedDevice(truth_ms=lambda path: path.stat().st_size / 1e6, quiet=quiet)
    monkeypatch.setattr(session, "get_device", lambda name: device)
    run = started(tmp_path, ("objectives=[accuracy,latency_ms@cpu]",))
    predictors = predictors_of(run, SPACE, lambda step: told.append(step.text))
    store = MeasurementSet(run.measurements_path("cpu"))
    assert len({row.key for row in store.read_usable()}) == 18
    refused = len(store.read()) - 18
    assert 5 < refused < 18, "too few networks were usable at first"
    assert set(predictors) == {"cpu"}


def test_what_is_refused_again_and_again_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimulatedDevice(quiet=lambda launch, path: path == REFERENCE)
    monkeypatch.setattr(session, "get_device", lambda name: device)
    run = started(tmp_path, ("objectives=[accuracy,latency_ms@cpu]",))
    with pytest.raises(InputError, match="no row of 0 measured networks has latency_ms"):
        predictors_of(run, SPACE, lambda step: None)
    assert len(MeasurementSet(run.measurements_path("cpu")).read()) == session.SITTINGS * 18


@pytest.mark.slow
def test_a_search_has_latency_and_memory_measured_here_and_energy_of_imported_rows(tmp_path: Path) -> None:
    run = started(tmp_path)
    api.fit_latency(measured_elsewhere(tmp_path), "cpu.energy_mj", run.predictors_dir, metric="energy_mj")
    told: list[str] = []
    assert api.search(run, lambda step: told.append(step.text))["evaluated"] == 4
    (other,) = (text for text in told if "was fitted on board" in text)
    assert other.startswith("energy_mj@cpu is local/onnxruntime/int8/1-thread in this run, and its predictor was")
    rows = MeasurementSet(run.measurements_path("cpu")).read_usable()
    entries = {row["predictor"]: row for row in api.list_predictors(run.predictors_dir)}
    assert {name: (row["metric"], row["rows"]) for name, row in entries.items()} == {
        "cpu/v1": ("latency_ms", len(rows)),
        "cpu.energy_mj/v1": ("energy_mj", 30),
        "cpu.peak_memory_mb/v1": ("peak_memory_mb", len(rows)),
    }
    for point in api.front(run.path).points:
        (true,) = 3 * roofline_ms([SPACE.layers(point.architecture)])
        assert point.values["energy_mj@cpu"].value == pytest.approx(true, rel=0.3)
        memory = point.values["peak_memory_mb@cpu"]
        assert memory.source == "predicted"
        assert memory.lower is not None
        assert 0 < memory.lower <= memory.value < 100
        assert "latency_ms@cpu" in point.values
    # A plan of the same run now knows them too.
    terms = {term.objective.name for term in api.plan(run.path, trial=False).terms if term.values}
    assert {"latency_ms@cpu", "energy_mj@cpu", "peak_memory_mb@cpu"} <= terms
