import ast
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from latency_predictors.devices import runner
from latency_predictors.devices.runner_device import ENERGY, REFERENCES, RUNNER
from latency_predictors.devices.ssh import FAR_END

MS = 1_000_000
PLAN = {
    "runtime": "onnxruntime", "threads": 1, "window_ms": 1, "min_inferences": 3, "patience": 3, "warmup_ms": 1,
    "timeout_seconds": 60, "probe_floor_ns": None, "energy_seconds": 0,
}  # fmt: skip


class Core:
    """A processor core with a clock of its own, on which work takes ``slowness`` times as long at some moments."""

    floor = 5000

    def __init__(self, slowness: Callable[[int], float], latency_ns: int = 50_000, jitter: float = 0.02) -> None:
        self.time, self.slowness, self.latency_ns, self.jitter = 0, slowness, latency_ns, jitter
        self.rng = np.random.default_rng(0)
        self.inferences: list[int] = []

    def clock(self) -> int:
        return self.time

    def work(self, duration: float) -> int:
        duration *= self.slowness(self.time)
        self.time += int(duration)
        return int(duration)

    def invoke(self) -> None:
        self.inferences.append(self.work(self.latency_ns * (1 + self.jitter * self.rng.random())))

    def __call__(self) -> int:
        """The speed probe."""
        return self.work(self.floor)


def _time(core: Core, monkeypatch: pytest.MonkeyPatch, patience: float = 10) -> dict[str, float | None]:
    monkeypatch.setattr(runner, "clock", core.clock)
    return runner.time_quietly(
        core.invoke,
        core,
        window_ns=20 * MS,
        min_inferences=15,
        patience=patience,  # type: ignore[arg-type]
    )


def test_an_undisturbed_core_gives_every_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(lambda _: 1.0)
    timing = _time(core, monkeypatch)
    assert timing["median_ms"] == pytest.approx(0.0505, rel=0.002)
    assert timing["quiet_share"] == 1.0
    assert timing["inferences"] == len(core.inferences)
    assert timing["probe_ns"] == Core.floor


@pytest.mark.parametrize("quiet_part", [0.6, 0.2])
def test_a_neighbour_that_comes_and_goes_does_not_move_the_median(
    monkeypatch: pytest.MonkeyPatch, quiet_part: float
) -> None:
    core = Core(lambda now: 1.0 if now % (4 * MS) < quiet_part * 4 * MS else 1.9)
    timing = _time(core, monkeypatch)
    assert timing["median_ms"] == pytest.approx(0.0505, rel=0.005)
    assert timing["quiet_share"] == pytest.approx(quiet_part, abs=0.15)
    assert np.mean(core.inferences) > 60_000  # which all inferences together do not show


def test_a_network_with_a_heavy_tail_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(lambda _: 1.0)
    durations = itertools.cycle([50_000, 50_000, 50_000, 120_000])
    monkeypatch.setattr(core, "invoke", lambda: core.work(next(durations)))
    timing = _time(core, monkeypatch)
    assert (timing["median_ms"], timing["p90_ms"]) == (0.05, 0.12)


def test_a_core_that_is_never_quiet_gives_no_figure_and_the_runner_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Core(lambda _: 1.6)
    timing = _time(core, monkeypatch, patience=4)
    assert timing["median_ms"] is None
    assert timing["quiet_share"] == 0
    assert 80 * MS <= core.time < 90 * MS


def test_bursts_from_before_the_core_sped_up_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    # The probe learns only after 5 ms how fast the core can be.
    core = Core(lambda now: 1.5 if now < 5 * MS else 1.0)
    core.floor = 7500

    def probe() -> int:
        duration = core.work(5000)
        core.floor = min(core.floor, duration)
        return duration

    monkeypatch.setattr(runner, "clock", core.clock)
    probe.floor = property(lambda _: core.floor)  # type: ignore[attr-defined]

    class Probe:
        floor = property(lambda _: core.floor)
        __call__ = staticmethod(probe)

    timing = runner.time_quietly(
        core.invoke,
        Probe(),
        window_ns=20 * MS,
        min_inferences=15,
        patience=10,  # type: ignore[arg-type]
    )
    assert timing["probe_ns"] == 5000
    assert timing["median_ms"] == pytest.approx(0.0505, rel=0.002)
    assert timing["quiet_share"] < 1


def test_a_slow_network_is_timed_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(lambda _: 1.0, latency_ns=30 * MS)
    assert _time(core, monkeypatch)["inferences"] == 15


def test_warming_up_ends_when_inferences_no_longer_get_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(lambda now: 1 + 2 * max(0.0, 1 - now / (20 * MS)), jitter=0)
    monkeypatch.setattr(runner, "clock", core.clock)
    runner.warm_up(core.invoke, 500 * MS)
    assert 20 * MS < core.time < 30 * MS
    still_faster = Core(lambda now: 0.9 ** (now / MS), jitter=0)
    monkeypatch.setattr(runner, "clock", still_faster.clock)
    runner.warm_up(still_faster.invoke, 10 * MS)
    assert 10 * MS <= still_faster.time < 14 * MS


def test_the_peak_of_memory_is_what_was_added_and_given_back_before_the_next() -> None:
    code = (
        "from latency_predictors.devices.runner import MemoryPeak\n"
        "for megabytes in (200, 50, 200):\n"
        "    peak = MemoryPeak()\n"
        "    held = b'x' * (megabytes * 10**6)\n"
        "    del held\n"
        "    print(peak.growth_mb())\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [float(line) for line in output.splitlines()] == pytest.approx([200, 50, 200], rel=0.05)


def test_the_probe_takes_the_fifth_fastest_as_its_floor_and_keeps_a_lower_known_one() -> None:
    probe = runner.SpeedProbe(None)
    fastest = min(probe() for _ in range(100))
    assert probe.floor == probe.own_floor > 0
    assert fastest > 0.5 * probe.floor
    assert runner.SpeedProbe(10).floor == 10


def _start(folder: Path) -> subprocess.Popen[bytes]:
    (folder / "runner.py").write_bytes(RUNNER.read_bytes())
    return subprocess.Popen(
        [sys.executable, "runner.py"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


def _tell(process: subprocess.Popen[bytes], content: object) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(content).encode() + b"\n")


def _hear(process: subprocess.Popen[bytes]) -> dict[str, object]:
    assert process.stdout
    answer: dict[str, object] = json.loads(process.stdout.readline())
    return answer


def test_the_runner_is_one_file_that_works_from_any_folder_and_ends_with_its_input(tmp_path: Path) -> None:
    process = _start(tmp_path)
    assert process.stdin
    _tell(process, PLAN)
    assert "ONNX Runtime" in str(_hear(process)["environment"])
    _tell(process, {"model": str(REFERENCES / "fp32.onnx")})
    assert "error" not in _hear(process)
    process.stdin.close()
    assert process.wait(60) == 0


@pytest.mark.parametrize("file", [RUNNER, ENERGY, FAR_END])
def test_what_runs_on_boards_is_written_for_old_pythons(file: Path) -> None:
    source = file.read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    assert "from __future__ import annotations" in source  # unions in annotations are from 3.10
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {name for name in names if name.startswith(("latency_predictors", "search_spaces", "nas"))}


def test_the_runner_binds_itself_to_the_last_core(tmp_path: Path) -> None:
    process = _start(tmp_path)
    _tell(process, PLAN)
    _hear(process)
    assert psutil.Process(process.pid).cpu_affinity() == sorted(os.sched_getaffinity(0))[-1:]
    process.kill()
    process.wait()


def test_a_hung_runner_without_a_host_ends_itself(tmp_path: Path) -> None:
    process = _start(tmp_path)
    assert process.stdin
    _tell(process, {**PLAN, "timeout_seconds": -3})  # two seconds with the allowance
    _hear(process)
    os.mkfifo(tmp_path / "hanging.onnx")
    _tell(process, {"model": str(tmp_path / "hanging.onnx")})
    started = time.monotonic()
    assert process.wait(60) == -14  # SIGALRM
    assert time.monotonic() - started < 30


def test_a_runtime_that_is_not_installed_is_named(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('No module named onnxruntime')")
    process = _start(tmp_path)
    _tell(process, PLAN)
    assert _hear(process) == {"error": "No module named onnxruntime"}
    assert process.wait(60) == 0


def test_the_reference_networks_never_change() -> None:
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in REFERENCES.iterdir()}
    hashes.pop("README.md")
    assert hashes == {
        "fp16.safetensors": "e0cc67b68a0435f8",
        "fp32.onnx": "8e7a07e647b13392",
        "fp32.safetensors": "1b2122f1a238eb8d",
        "fp32.tflite": "9b9570107848cb12",
        "int8.onnx": "af6f67c5fd89def1",
        "int8.tflite": "2f2805d8ce4890bf",
    }
