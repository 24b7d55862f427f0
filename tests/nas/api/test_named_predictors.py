"""Searches with predictors that a device team has published: checked, copied, and nothing measured for them."""

import os
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latency_predictors.catalog import ARRAYS, Catalog
from latency_predictors.evaluation import fit_predictor
from latency_predictors.store import MeasurementSet
from nas import api
from nas.api.latency import distinct_networks, fit_measured
from nas.api.submit import _write
from nas.cli import run as command_line
from nas.errors import InputError, RunError
from nas.run import Run
from nas.search.ledger import Ledger
from search_spaces.space import load_space
from tests.latency_predictors.roofline import roofline_ms, tiny_networks
from tests.nas.search.small import child, wait_until
from tests.nas.test_config import DIGITS, ROOT

SAMPLE = ROOT / "experiments" / "sample_data" / "tiny-local-onnxruntime-int8.parquet"
TINY = load_space("tiny")
SMALL = ("accuracy.epochs=1", "data.max_images=200", "search.budget=4", "search.sampler=random", "ray.executor=serial")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of predictors: two versions of `pixel8`, learned from rows of the sample data."""
    folder = tmp_path_factory.mktemp("team") / "predictors"
    rows = MeasurementSet(SAMPLE).read_usable()
    for some in (rows[:40], rows[40:100]):
        Catalog(folder).save("pixel8", fit_measured(some, TINY, "latency_ms"))
    energetic = [replace(row, energy_mj=3 * (row.latency_ms or 0.0), energy_source="a meter") for row in rows[:40]]
    Catalog(folder).save("pixel8-energy", fit_measured(energetic, TINY, "energy_mj"))
    return folder


def overrides(runs_dir: Path, *predictors: Path) -> tuple[str, ...]:
    named = ", ".join(map(str, predictors))
    return (f"runs_dir={runs_dir}", f"devices.cpu.predictor=[{named}]", *SMALL)


def test_a_plan_tells_what_a_named_predictor_says_and_writes_nothing(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = overrides(tmp_path, store / "pixel8" / "v1")
    predictor = Catalog(store).load("pixel8/v1")
    found = api.plan(DIGITS, (*given, "constraints=[latency_ms@cpu <= 0.03]"), trial=False)
    (term,) = [term for term in found.terms if term.objective.name == "latency_ms@cpu"]
    told = predictor.predict_architectures(found.networks, {"tiny": TINY.with_data(image_channels=1, classes=10)})
    assert [value.value for value in term.values] == told.mean.tolist()
    share = term.constraints[0][1]
    assert share is not None
    assert 0 < share < 1
    assert not any(stage.name.startswith("measure") for stage in found.stages)
    (note,) = [note for note in found.notes if str(store) in note]
    assert note.startswith(f"cpu: {store}/pixel8/v1, a ")
    assert "predictor from 40 networks; cross-validated: MAPE" in note
    assert note.endswith("nothing is measured for it")
    impossible = ("constraints=[latency_ms@cpu <= 0.0001]", "--no-trial")
    assert command_line(["plan", str(DIGITS), *given, *impossible]) == 1
    assert "infeasible: latency_ms@cpu <= 0.0001: the nearest of" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("devices.cpu.precision=fp32", "predicts local/onnxruntime/int8/1-thread, and the device is local/onnx.*fp32"),
        ("devices.cpu.device=local/openvino", "and the device is local/openvino/int8/1-thread here: name a predictor"),
        ("devices.cpu.threads=2", "and the device is local/onnxruntime/int8/2-threads here"),
        ("space=efficientnet_mixed", "from networks of another space than 'efficientnet_mixed'.*: name one that was"),
        ("space.resolution=[24]", r"another space than 'tiny' \(none had a choice of resolution\)"),
        ("devices.cpu.predictor={store}/nobody", "no predictor 'nobody' in .*; `nas latency fit` makes one"),
        ("devices.cpu.predictor={store}/pixel8/v9", "has the versions v1, v2 and latest, got 'v9'"),
        ("devices.cpu.predictor=[{store}/pixel8, {store}/pixel8/v1]", "v1 tells latency_ms@cpu, and so does .*v2: "),
    ],
)
def test_a_predictor_of_something_else_is_refused_before_a_run_begins(
    store: Path, tmp_path: Path, change: str, sentence: str
) -> None:
    given = (*overrides(tmp_path, store / "pixel8"), change.format(store=store))
    for verb in (api.plan, api.start):
        with pytest.raises(InputError, match=rf"^devices\.cpu\.predictor: .*{sentence}"):
            verb(DIGITS, given)
    assert not (tmp_path / "digits" / "config.yaml").exists()


def test_a_name_without_a_folder_is_told_with_the_other_mistakes_of_the_file() -> None:
    with pytest.raises(InputError, match=r"devices\.cpu\.predictor: a predictor is FOLDER/NAME or FOLDER/NAME/v2"):
        api.load_config(DIGITS, ("devices.cpu.predictor=pixel8",))


def test_a_damaged_predictor_and_one_of_vectors_without_layers_are_refused(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "predictors"
    shutil.copytree(store, copy)
    arrays = copy / "pixel8" / "v2" / ARRAYS
    arrays.write_bytes(arrays.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"^devices\.cpu\.predictor: .*v2.* is damaged"):
        api.start(DIGITS, overrides(tmp_path, copy / "pixel8"))
    table = tmp_path / "vectors.csv"
    rng = np.random.default_rng(0)
    rows = [f'"{rng.integers(0, 4, 6).tolist()}",cells,board,int8,{rng.uniform(1, 2)}' for _ in range(40)]
    table.write_text("arch,space,device,precision,latency_ms\n" + "\n".join(rows))
    api.import_latency(table, tmp_path / "vectors.parquet")
    api.fit_latency(tmp_path / "vectors.parquet", "cells", copy)
    with pytest.raises(InputError, match=r"^devices\.cpu\.predictor: cells/v1 predicts vectors of a space without"):
        api.start(DIGITS, overrides(tmp_path, copy / "cells"))


def test_a_choice_that_no_network_had_is_told(store: Path, tmp_path: Path) -> None:
    given = (*overrides(tmp_path, store / "pixel8"), "space.resolution=[8, 16, 24]", "constraints=[]")
    found = api.plan(DIGITS, given, trial=False)
    assert any("no network had resolution=24, so that its intervals are guesses" in note for note in found.notes)


def test_a_run_keeps_the_version_it_began_with(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "predictors"
    shutil.copytree(store, copy)
    given = overrides(tmp_path, copy / "pixel8", copy / "pixel8-energy")
    run = api.start(DIGITS, given)
    Catalog(copy).promote("pixel8/v1")
    assert api.start(DIGITS, given) == run
    entries = {entry.id: entry.origin for entry in Catalog(run.predictors_dir).entries()}
    assert entries == {"cpu/v1": f"{copy}/pixel8/v2", "cpu.energy_mj/v1": f"{copy}/pixel8-energy/v1"}
    networks = [architecture for architecture, _ in distinct_networks(TINY, 20, seed=3)]
    for name, own in (("pixel8/v2", "cpu"), ("pixel8-energy", "cpu.energy_mj")):
        predictors = Catalog(copy).load(name), Catalog(run.predictors_dir).load(own)
        one, other = (predictor.predict_architectures(networks, {"tiny": TINY}) for predictor in predictors)
        assert one.mean.tolist() == other.mean.tolist()
        assert one.upper.tolist() == other.upper.tolist()
    assert all(state.state in ("good", "not checked") for state in api.doctor(run.path).files)


def _search(path: Path) -> None:
    api.search(api.start(path))


@pytest.mark.slow
def test_a_search_with_a_named_predictor_measures_nothing_and_goes_on_without_its_folder(
    store: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "predictors"
    shutil.copytree(store, copy)
    given = (*overrides(tmp_path, copy / "pixel8", copy / "pixel8-energy"), "search.budget=16")
    run = api.start(DIGITS, (*given, "objectives=[accuracy, latency_ms@cpu, energy_mj@cpu]"))
    process = child(_search, run.path)

    def evaluated() -> int:
        with suppress(RunError), Ledger.of(run) as ledger:  # the error while its tables are being made
            return sum(one.state == "done" for one in ledger.candidates()) if ledger.exists() else 0
        return 0

    wait_until(lambda: evaluated() >= 3, seconds=120)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before = evaluated()
    assert before < 16
    shutil.rmtree(copy)
    told: list[str] = []
    assert api.search(api.start(run.path), lambda step: told.append(step.text))["evaluated"] == 16
    assert any(text.startswith(f"latency_ms@cpu: {copy}/pixel8/v2, a ") for text in told)
    assert not (run.path / "measurements").exists()
    assert list(Run.open(run.path).status()["stages"]) == ["train", "search"]
    space = TINY.with_data(image_channels=1, classes=10)
    points = api.front(run.path).points
    assert len(points) == 16
    for name, shipped in (("latency_ms@cpu", "pixel8"), ("energy_mj@cpu", "pixel8-energy")):
        said = Catalog(store).load(shipped).predict_architectures([one.architecture for one in points], {"tiny": space})
        # Up to the order of sums: the search asks about fewer at a time.
        assert [point.values[name].value for point in points] == pytest.approx(said.mean.tolist(), rel=1e-12)
        assert [point.values[name].lower for point in points] == pytest.approx(said.lower.tolist(), rel=1e-12)


@pytest.mark.slow
def test_a_device_out_of_reach_is_searched_for(tmp_path: Path) -> None:
    networks = tiny_networks(40, seed=2)
    profile = "adb/NOWHERE/litert/int8/1-thread"
    fitted = fit_predictor(networks, roofline_ms(networks), metric="latency_ms", device=profile)
    Catalog(tmp_path / "team").save("phone", fitted)
    phone = f"devices={{phone: {{device: adb/NOWHERE/litert, precision: int8, predictor: {tmp_path}/team/phone}}}}"
    run = api.start(DIGITS, (f"runs_dir={tmp_path}", phone, "objectives=[accuracy, latency_ms@phone]", *SMALL))
    assert api.search(run)["evaluated"] == 4
    assert all(point.values["latency_ms@phone"].source == "predicted" for point in api.front(run.path).points)


def test_a_submitted_experiment_takes_its_predictors_along(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tmp_path / "own.yaml"
    space.write_text((ROOT / "search_spaces" / "spaces" / "tiny.yaml").read_text())
    given = (*overrides(tmp_path / "runs", store / "pixel8" / "v1", store / "pixel8-energy"), f"space={space}")
    job = tmp_path / "job"
    job.mkdir()
    _write(api.load_config(DIGITS, given), job)
    monkeypatch.chdir(job)
    run = api.start(Path("experiment.yaml"))
    assert api.start(Path("experiment.yaml")) == run
    found = {entry.name: entry.training_set for entry in Catalog(run.predictors_dir).entries()}
    wanted = {"cpu": "pixel8/v1", "cpu.energy_mj": "pixel8-energy"}
    assert found == {name: Catalog(store).entry(one).training_set for name, one in wanted.items()}
