import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from latency_predictors import session
from latency_predictors.devices import get_device
from latency_predictors.measurement import DeviceProfile, Measurement
from latency_predictors.preset import PRESETS, Preset
from latency_predictors.protocol import PROTOCOL_VERSION
from latency_predictors.session import measure_files, measure_networks
from latency_predictors.store import MeasurementSet
from search_spaces.architecture import Architecture
from search_spaces.cost import network_cost
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec
from search_spaces.space import load_space
from tests.latency_predictors.devices.simulated import ENVIRONMENT, REFERENCE, SimulatedDevice

Networks = list[tuple[Architecture, Sequence[LayerSpec]]]
PROFILE = DeviceProfile("local/onnxruntime")
SHORT = Preset(
    "short", min_blocks=3, max_blocks=3, max_launches=3, budget_seconds=60,
    window_ms=2, min_inferences=3, patience=2, warmup_ms=5, timeout_seconds=60,
)  # fmt: skip


def _networks(count: int) -> Networks:
    space, rng = load_space("tiny"), np.random.default_rng(0)
    architectures = {architecture.key: architecture for architecture in (space.sample(rng) for _ in range(3 * count))}
    return [(a, space.layers(a)) for a in itertools.islice(architectures.values(), count)]


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> SimulatedDevice:
    """Takes the place of every device; a model file's latency is a thousandth of its kilobytes, in milliseconds."""
    device = SimulatedDevice(truth_ms=lambda path: path.stat().st_size / 1e6, spread=0.002)
    monkeypatch.setattr(session, "get_device", lambda name: device)
    return device


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(PRESETS, "short", SHORT)
    return "short"


def _models(device: SimulatedDevice) -> list[str]:
    return [path.stem for launch in device.launches for path in launch if path != REFERENCE]


def test_each_network_gives_one_row_in_the_order_given(simulated: SimulatedDevice) -> None:
    networks = _networks(5)
    rows = measure_networks(networks, PROFILE, seed=3)
    assert [row.architecture for row in rows] == [architecture for architecture, _ in networks]
    for row, (_, layers) in zip(rows, networks, strict=True):
        assert (row.verdict, row.profile, row.environment, row.seed) == ("accepted", PROFILE, ENVIRONMENT, 3)
        assert (row.preset, row.protocol_version, row.runtime) == ("quick", PROTOCOL_VERSION, "onnxruntime")
        assert row.latency_ms == pytest.approx(row.model_bytes / 1e6, rel=0.01)
        assert row.model_bytes > network_cost(layers).weight_bytes
        assert len(row.block_medians_ms) == PRESETS["quick"].min_blocks
        assert row.p50_ms == np.median(row.block_medians_ms)
        assert row.reference_ms == pytest.approx(0.1, rel=0.02)
        assert (row.load_ms, row.quiet_share, row.peak_memory_mb) == (2.0, 1.0, 3.0)


def test_rows_in_the_set_are_not_measured_again(simulated: SimulatedDevice, tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    networks = _networks(6)
    first = measure_networks(networks[:4], PROFILE, store=store)
    simulated.launches.clear()
    second = measure_networks(networks, PROFILE, store=store)
    assert second[:4] == first
    assert set(_models(simulated)) == {row.network_hash for row in second[4:]}
    assert store.read() == second


def test_a_repeated_network_is_measured_once(simulated: SimulatedDevice, tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    (one, other) = _networks(2)
    rows = measure_networks([one, other, one], PROFILE, store=store)
    assert rows[0] == rows[2] != rows[1]
    assert len(store.read()) == 2


def test_another_preset_profile_or_class_count_is_measured_anew(simulated: SimulatedDevice, tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    networks = _networks(1)
    architecture = networks[0][0]
    wider = load_space("tiny").with_data(image_channels=3, classes=7)
    measure_networks(networks, PROFILE, store=store)
    measure_networks(networks, PROFILE, store=store, preset="standard")
    measure_networks(networks, DeviceProfile("local/onnxruntime", "fp32", 2), store=store)
    measure_networks([(architecture, wider.layers(architecture))], PROFILE, store=store)
    rows = store.read()
    assert len(rows) == 4
    assert {row.key for row in rows} == {architecture.key}
    measure_networks(networks, PROFILE, store=store)
    assert len(store.read()) == 4


def test_a_refused_row_is_kept_and_measured_again(simulated: SimulatedDevice, tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    simulated.quiet = lambda *_: False
    assert measure_networks(_networks(1), PROFILE, store=store)[0].verdict == "refused"
    simulated.quiet = lambda *_: True
    assert measure_networks(_networks(1), PROFILE, store=store)[0].verdict == "accepted"
    assert [row.verdict for row in store.read()] == ["refused"] * session.SITTINGS + ["accepted"]


def test_what_is_refused_is_measured_again_as_long_as_that_helps(simulated: SimulatedDevice, tmp_path: Path) -> None:
    store, networks = MeasurementSet(tmp_path / "cpu.parquet"), _networks(6)
    hashes = [row.network_hash for row in measure_networks(networks, PROFILE)]
    refusals = dict(zip(hashes, [0, 1, 2, 3, 4, 9], strict=True))
    launches = PRESETS["quick"].max_launches

    def quiet(launch: int, path: Path) -> bool:
        seen = sum(path.stem in {one.stem for one in earlier} for earlier in simulated.launches[:launch])
        return path == REFERENCE or seen >= launches * refusals[path.stem]

    simulated.launches.clear()
    simulated.quiet = quiet
    steps: list[tuple[int, int, str]] = []
    rows = measure_networks(networks, PROFILE, store=store, progress=lambda *step: steps.append(step))
    assert [row.verdict for row in rows] == ["accepted"] * 4 + ["refused"] * 2
    assert Counter(row.network_hash for row in store.read()) == dict(zip(hashes, [1, 2, 3, 4, 4, 4], strict=True))
    assert [done for done, _, _ in steps] == sorted(done for done, _, _ in steps)
    assert [step for step in steps if step[0] == step[1]] == [(steps[-1][1], steps[-1][1], "4 accepted, 2 refused")]
    assert [text for _, _, text in steps].count("again: building model files") == 3


def test_a_device_that_throttles_in_its_first_sitting_is_not_taken_for_a_slow_one_in_the_next(
    simulated: SimulatedDevice, tmp_path: Path
) -> None:
    simulated.slowness, simulated.clock_told = lambda launch: 1.0 if launch < 2 else 1.2, True
    rows = measure_networks(_networks(3), PROFILE, store=MeasurementSet(tmp_path / "cpu.parquet"))
    assert {row.verdict for row in rows} == {"refused"}
    assert all("the core's clock was slower than usual" in row.reason for row in rows)
    assert len(simulated.launches) > 2 * PRESETS["quick"].max_launches


def test_sittings_that_do_not_help_end_and_what_cannot_be_run_has_only_one(
    simulated: SimulatedDevice, tmp_path: Path
) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    files = (broken, busy, *quiet) = [tmp_path / f"{number}.onnx" for number in range(4)]
    for file in files:
        file.write_bytes(file.name.encode())
    simulated.failures = {broken: "no kernel"}
    simulated.quiet = lambda launch, path: path != busy
    rows = measure_files(files, PROFILE, store=store)
    assert rows[0].reason == "it could not be run: no kernel"
    assert Counter(row.key for row in store.read()) == {broken.name: 1, busy.name: 2, **{one.name: 1 for one in quiet}}
    simulated.quiet = lambda launch, path: path == REFERENCE
    other = MeasurementSet(tmp_path / "other.parquet")
    measure_files([busy], PROFILE, store=other)
    assert len(other.read()) == session.SITTINGS, "as long as most are refused"


def test_a_machine_slower_than_when_the_set_was_made_adds_only_refused_rows(
    simulated: SimulatedDevice, tmp_path: Path
) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    networks = _networks(4)
    measure_networks(networks[:2], PROFILE, store=store)
    simulated.slowness = lambda _: 1.15
    assert {row.verdict for row in measure_networks(networks[2:], PROFILE, store=store)} == {"refused"}
    assert len(store.read_usable()) == 2


def test_an_interrupted_session_keeps_its_finished_groups(
    simulated: SimulatedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FIRST_GROUP", 2)
    monkeypatch.setattr(session, "LARGEST_GROUP", 2)
    store = MeasurementSet(tmp_path / "cpu.parquet")

    def interrupt(done: int, total: int, text: str) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_networks(_networks(6), PROFILE, store=store, progress=interrupt)
    kept = store.read()
    assert 2 <= len(kept) < 6
    rows = measure_networks(_networks(6), PROFILE, store=store)
    assert store.read()[: len(kept)] == kept
    assert len(store.read()) == len(rows) == 6


def test_the_first_group_tells_how_many_networks_share_launches(
    simulated: SimulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes() -> list[int]:
        simulated.launches.clear()
        measure_networks(_networks(20), PROFILE)
        order = dict.fromkeys(frozenset(launch) for launch in simulated.launches)
        return [len(launch - {REFERENCE}) for launch in order]

    assert sizes() == [8, 12]  # a simulated launch takes no time
    monkeypatch.setattr(session, "LAUNCH_SECONDS", 0.0)
    assert sizes() == [8, 8, 4]


def test_progress_rises_to_the_total_in_every_session(simulated: SimulatedDevice, tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    steps: list[tuple[int, int, str]] = []
    for _ in range(2):
        measure_networks(_networks(3), PROFILE, store=store, progress=lambda *step: steps.append(step))
    total = 3 * (1 + PRESETS["quick"].min_blocks)
    first = steps[:-1]
    assert [done for done, _, _ in first] == sorted(done for done, _, _ in first)
    assert steps[-1] == first[-1] == (total, total, "3 accepted")
    assert {text for _, _, text in first} >= {
        "built 2 of 3 model files",
        "0 of 3 networks done",
        "3 of 3 networks done",
    }


def test_files_are_measured_under_their_architecture_or_their_name(simulated: SimulatedDevice, tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for number, file in enumerate(files, start=1):
        file.write_bytes(bytes(1000 * number))
    store = MeasurementSet(tmp_path / "cpu.parquet")
    architectures = [architecture for architecture, _ in _networks(2)]
    known = measure_files(files, PROFILE, architectures=architectures, store=store)
    assert [row.architecture for row in known] == architectures
    assert [row.latency_ms for row in known] == pytest.approx([0.001, 0.002], rel=0.01)
    unknown = measure_files(files[:1], PROFILE)
    assert (unknown[0].key, unknown[0].architecture, unknown[0].model_bytes) == ("a.onnx", None, 1000)
    files[0].write_bytes(bytes(3000))
    assert measure_files(files, PROFILE, store=store)[0].latency_ms == pytest.approx(0.003, rel=0.01)
    assert len(store.read()) == 3


def test_a_file_that_the_device_cannot_run_is_refused_before_anything_is_measured(
    simulated: SimulatedDevice, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"local/onnxruntime runs \.onnx files, got .*model\.tflite"):
        measure_files([tmp_path / "model.tflite"], PROFILE)
    with pytest.raises(InputError, match=r"no model file at .*model\.onnx"):
        measure_files([tmp_path / "model.onnx"], PROFILE)
    assert simulated.launches == []


def test_a_damaged_set_is_reported_before_anything_is_measured(simulated: SimulatedDevice, tmp_path: Path) -> None:
    store = MeasurementSet(tmp_path / "cpu.parquet")
    store.path.write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match="damaged"):
        measure_networks(_networks(1), PROFILE, store=store)
    assert simulated.launches == []


@pytest.mark.parametrize("name", ["local/litert", "local/onnxruntime"])
def test_finished_files_are_measured_for_real(name: str, short: str) -> None:
    # The machine may be too busy for a verdict; that every block was run shows in the quiet share.
    device = get_device(name)
    for precision in ("fp32", "int8"):
        file = device.reference(precision)
        profile = DeviceProfile(name, precision)
        rows = measure_files([file], profile, preset=short)
        assert (rows[0].profile, rows[0].model_bytes) == (profile, file.stat().st_size)
        assert rows[0].quiet_share is not None
        if rows[0].latency_ms:
            assert 0.001 < rows[0].latency_ms < 10


MEASURE = """
import dataclasses, sys
from pathlib import Path
from latency_predictors import session
from latency_predictors.preset import PRESETS
from latency_predictors.store import MeasurementSet
from tests.latency_predictors.test_session import PROFILE, SHORT, _networks

session.FIRST_GROUP = session.LARGEST_GROUP = 2
PRESETS["short"] = SHORT
session.measure_networks(_networks(8), PROFILE, preset="short", store=MeasurementSet(Path(sys.argv[1])))
"""


def test_a_killed_session_loses_no_row_leaves_no_process_and_goes_on(tmp_path: Path, short: str) -> None:
    path = tmp_path / "cpu.parquet"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # the killed session leaves its model files
    process = subprocess.Popen([sys.executable, "-c", MEASURE, str(path)], env=environment)
    descendants: set[psutil.Process] = set()
    while not path.exists():
        assert process.poll() is None
        descendants |= set(psutil.Process(process.pid).children(recursive=True))
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = MeasurementSet(path).read()
    assert 2 <= len(kept) < 8
    assert psutil.wait_procs(list(descendants), timeout=60)[1] == []

    networks = _networks(8)
    rows = measure_networks(networks, PROFILE, preset=short, store=MeasurementSet(path))
    after = MeasurementSet(path).read()
    assert after[: len(kept)] == kept
    assert [row.architecture for row in rows] == [architecture for architecture, _ in networks]
    assert {row.network_hash for row in after} == {row.network_hash for row in rows}
    _assert_measured_once(after)


def _assert_measured_once(rows: list[Measurement]) -> None:
    usable = Counter(row.network_hash for row in rows if row.usable)
    assert all(count == 1 for count in usable.values())
