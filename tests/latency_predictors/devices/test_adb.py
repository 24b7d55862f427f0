"""What only a phone has; a program that speaks adb's commands plays it (`phone.py`)."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from latency_predictors.devices import adb, get_device
from latency_predictors.devices.adb import read_timing
from latency_predictors.devices.base import BlockPlan, DeviceError, Timing
from latency_predictors.measurement import DeviceProfile
from latency_predictors.preset import PRESETS
from latency_predictors.session import measure_files
from search_spaces.errors import InputError
from tests.latency_predictors.devices.phone import HANGING, SERIAL, Phone
from tests.latency_predictors.test_session import SHORT

PLAN = BlockPlan(window_ms=300, min_inferences=3, patience=3, warmup_ms=1, timeout_seconds=60)
DEVICE = get_device(f"adb/{SERIAL}/litert")
MODEL = DEVICE.reference("fp32")


def _timing() -> Timing:
    result = DEVICE.measure_block([MODEL], threads=1, plan=PLAN).results[0]
    assert result.timing, result.failure
    return result.timing


def test_finished_files_are_measured_on_a_phone(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "short", SHORT)
    row = measure_files([DEVICE.reference("int8")], DeviceProfile(DEVICE.name, "int8"), preset="short")[0]
    assert (row.profile.id, row.runtime) == (f"adb/{SERIAL}/litert/int8/1-thread", "litert")
    assert row.quiet_share == 1  # every block was run; the machine may be too busy for a verdict
    assert row.environment.cpu == "Example Phone 1 SC1"
    assert row.environment.system.startswith("Android 15 Linux ")
    assert {path.name for path in (phone.data / "hwnas").iterdir()} == {"lock", "out"}


def test_the_clock_beside_the_inferences_is_the_speed_probe(phone: Phone) -> None:
    timing = _timing()
    assert (timing.probe_ns, timing.p90_ms) == (None, None)
    assert timing.peak_memory_mb == pytest.approx(2.25 * 2**20 / 1e6)
    phone.set_clocks(*[2_000_000] * (os.cpu_count() or 1))
    assert _timing().probe_ns == 5000
    phone.set_clocks(*[1_000_000] * (os.cpu_count() or 1))
    assert _timing().probe_ns == 10_000


def test_the_fastest_cores_are_used(phone: Phone) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if cores != list(range(len(cores))):
        pytest.skip("clocks are set for cores 0, 1, ... and this process may use others")
    program = "#!/bin/sh\ntaskset -p $$ >&2\ngrep Cpus_allowed_list /proc/self/status\nexit 1\n"
    phone.install(phone.program, program)
    for fastest in cores:
        phone.set_clocks(*[3_000_000 if core == fastest else 2_000_000 for core in cores])
        DEVICE.measure_block([MODEL], threads=1, plan=PLAN)
        assert (phone.data / "hwnas/out").read_text().split()[-1] == str(fastest)


def test_a_phone_that_throttles_gives_no_median(phone: Phone, caplog: pytest.LogCaptureFixture) -> None:
    phone.heat(2)
    assert (_timing().median_ms, _timing().quiet_share) == (None, 0.0)
    assert "throttles because it is hot: let it cool" in caplog.text


def test_a_host_without_adb_is_one_sentence(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match=r"needs the program `adb`; install Android's platform tools"):
        get_device(DEVICE.name).environment()


def test_a_phone_without_the_program_is_one_sentence(phone: Phone) -> None:
    phone.program.unlink()
    with pytest.raises(DeviceError, match=r"has no program .*: `adb -s 4A1B0C-phone push benchmark_model .* chmod \+x"):
        DEVICE.environment()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("", "no phone 4A1B0C-phone is connected, `adb devices` lists none: plug it in"),
        ("other\tdevice", "`adb devices` lists other: plug it in"),
        (f"{SERIAL}\tunauthorized", "adb says 'unauthorized' of the phone.* allow USB debugging on its screen"),
    ],
)
def test_a_phone_that_is_not_there_is_one_sentence(phone: Phone, listed: str, message: str) -> None:
    phone.say_state(listed)
    with pytest.raises(DeviceError, match=message) as it:
        DEVICE.environment()
    assert "\n" not in str(it.value)


def test_a_phone_unplugged_during_a_launch_is_no_failure_of_the_model(phone: Phone, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging.tflite"
    hanging.write_bytes(HANGING)

    def unplug() -> None:
        while not list((phone.data / "hwnas").glob("*.pid")):
            time.sleep(0.01)
        phone.say_state("")
        launch = next(p for p in psutil.Process().children(recursive=True) if p.name() == "sh")
        for process in [*launch.children(recursive=True), launch]:
            process.kill()

    cutter = threading.Thread(target=unplug)
    cutter.start()
    with pytest.raises(DeviceError, match="no phone 4A1B0C-phone is connected"):
        DEVICE.measure_block([hanging], threads=1, plan=PLAN)
    cutter.join()


def test_ctrl_c_ends_the_launch_on_the_phone(phone: Phone, tmp_path: Path) -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    hanging = tmp_path / "hanging.tflite"
    hanging.write_bytes(HANGING)
    main, launched = threading.main_thread().ident, []
    assert main

    def interrupt() -> None:
        numbers: list[str] = []
        while not numbers:
            time.sleep(0.01)
            numbers = [text for path in (phone.data / "hwnas").glob("*.pid") if (text := path.read_text().strip())]
        launched.append(psutil.Process(int(numbers[0])))
        signal.pthread_kill(main, signal.SIGINT)

    user = threading.Thread(target=interrupt)
    user.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            DEVICE.measure_block([hanging], threads=1, plan=PLAN)
    finally:
        signal.signal(signal.SIGINT, handler)
    user.join()
    psutil.wait_procs(launched, timeout=5)
    assert not launched[0].is_running() or launched[0].status() == psutil.STATUS_ZOMBIE
    assert {path.name for path in (phone.data / "hwnas").iterdir()} == {"lock", "out"}


def test_a_launch_of_another_host_is_waited_for_but_not_for_ever(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    DEVICE.environment()
    lock = phone.data / "hwnas/lock"
    with subprocess.Popen(["flock", str(lock), "sh", "-c", "echo held; exec sleep 2.5"], stdout=-1) as other:
        assert other.stdout
        other.stdout.readline()
        started = time.monotonic()
        assert _timing().median_ms
        assert time.monotonic() - started > 1
    monkeypatch.setattr(adb, "PATIENCE_SECONDS", 0.1)
    with subprocess.Popen(["flock", str(lock), "sh", "-c", "echo held; exec sleep 30"], stdout=-1) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(DeviceError, match="is measured by another host"):
            DEVICE.measure_block([MODEL], threads=1, plan=PLAN)
        psutil.Process(other.pid).children()[0].kill()
    assert not list((phone.data / "hwnas").glob("model-*"))


def test_a_program_too_old_to_print_a_median_is_one_sentence() -> None:
    lines = [
        "count=50 first=266601 curr=266931 min=265837 max=268116 avg=266473 std=419",
        "Inference timings in us: Init: 20283, First inference: 339304, Warmup (avg): 302814, Inference (avg): 266473",
    ]
    with pytest.raises(DeviceError, match=r"does not print what is read of it .* push a newer build"):
        read_timing(lines)
    lines[0] += " p5=265900 median=266470 p95=267100"
    timing = read_timing(lines)
    assert (timing.load_ms, timing.first_inference_ms, timing.median_ms) == (20.283, 339.304, 266.47)
    assert timing.inferences == 50


def test_a_serial_number_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(InputError, match="a phone is named by its serial number"):
        get_device("adb/-s/litert")
