"""Energy from folders like sysfs, whose counters rise while the tests run."""

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from latency_predictors.devices import get_device
from latency_predictors.devices.base import BlockPlan
from latency_predictors.devices.energy import EnergyPerInference, NoEnergyError, find_meter

RANGE_UJ = 262_143_328_850
PLAN = BlockPlan(
    window_ms=1, min_inferences=3, patience=3, warmup_ms=1, timeout_seconds=60, energy_seconds=1.0
)  # fmt: skip


class Machine:
    """Writes a RAPL counter, and a power sensor, of a machine that draws 20 W at rest and 50 W at work."""

    def __init__(self, folder: Path, counted_uj: int = 0) -> None:
        self.folder, self.counted_uj = folder, float(counted_uj)
        self.watts: Callable[[], float] = lambda: 50 if self.busy else 20
        self.busy = False
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._live, daemon=True)

    def with_rapl(self) -> "Machine":
        folder = self.folder / "class/powercap/intel-rapl:0"
        folder.mkdir(parents=True)
        for name, text in (("name", "package-0"), ("max_energy_range_uj", f"{RANGE_UJ}"), ("energy_uj", "0")):
            (folder / name).write_text(f"{text}\n")
        core = self.folder / "class/powercap/intel-rapl:0:0"  # a part of the package, counted in it
        core.mkdir()
        (core / "name").write_text("core\n")
        self.counter = folder / "energy_uj"
        return self

    def with_rail(self, number: int) -> "Machine":
        folder = self.folder / f"class/hwmon/hwmon{number}"
        folder.mkdir(parents=True)
        self.counter = folder / "power1_input"
        self.counter.write_text("1\n")
        return self

    def start(self) -> "Machine":
        self._write(self._value())
        self.thread.start()
        return self

    def work(self) -> None:
        self.busy = True
        time.sleep(0.01)

    def _value(self) -> float:
        return self.watts() * 1e6 if self.counter.name == "power1_input" else self.counted_uj % RANGE_UJ

    def _live(self) -> None:
        then = time.monotonic()
        while not self.over.wait(0.002):
            now = time.monotonic()
            self.counted_uj += self.watts() * (now - then) * 1e6
            then = now
            self._write(self._value())

    def _write(self, value: float) -> None:
        # One write of a fixed length, so that no reader finds half a number.
        file = os.open(self.counter, os.O_WRONLY)
        os.pwrite(file, f"{int(value):020}\n".encode(), 0)
        os.close(file)


@pytest.fixture
def sysfs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # for the test as another user
        monkeypatch.setenv("HWNAS_SYSFS", folder)
        monkeypatch.delenv("HWNAS_POWER_RAIL", raising=False)
        yield Path(folder)


@pytest.fixture
def machine(sysfs: Path) -> Iterator[Machine]:
    made = Machine(sysfs)
    yield made
    made.over.set()
    if made.thread.is_alive():
        made.thread.join()


def _energy_mj(machine: Machine) -> float:
    found = EnergyPerInference(find_meter(), 0.5)
    begin, count = time.monotonic(), 0

    def work() -> None:
        nonlocal count
        count += 1
        machine.work()

    energy = found.measure_mj(work)
    assert energy
    return energy / ((time.monotonic() - begin) / count * 1e3)  # millijoules a millisecond: watts


def test_what_the_processor_counts_is_of_inferences_alone(machine: Machine) -> None:
    machine.with_rapl().start()
    assert find_meter().source == "rapl package-0"
    assert _energy_mj(machine) == pytest.approx(30, rel=0.3)


def test_a_counter_that_begins_anew_is_followed(machine: Machine) -> None:
    machine.counted_uj = RANGE_UJ - 20e6  # one second of rest: it goes round in one of the windows
    machine.with_rapl().start()
    assert _energy_mj(machine) == pytest.approx(30, rel=0.3)
    assert machine.counted_uj > RANGE_UJ


def test_a_power_rail_is_summed(machine: Machine) -> None:
    machine.with_rail(0).start()
    assert find_meter().source == "hwmon hwmon0/power1"
    assert _energy_mj(machine) == pytest.approx(30, rel=0.3)


def test_volts_and_amperes_make_a_power_rail(sysfs: Path) -> None:
    folder = sysfs / "class/hwmon/hwmon3"
    folder.mkdir(parents=True)
    (folder / "in1_input").write_text("5000\n")
    (folder / "curr1_input").write_text("600\n")
    meter = find_meter()
    begin = time.monotonic()
    meter.start()
    time.sleep(1)
    assert meter.stop() == pytest.approx(3.0 * (time.monotonic() - begin), rel=0.3)


@pytest.fixture
def power_chip(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program that answers as a Raspberry Pi 5's; returns the file with its answer."""
    with tempfile.TemporaryDirectory() as folder:
        answer, program = Path(folder) / "answer", Path(folder) / "vcgencmd"
        program.write_text(f'#!/bin/sh\ntest "$1" = pmic_read_adc && cat {answer}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", folder, prepend=os.pathsep)
        yield answer


def test_a_power_chip_sums_the_rails_that_tell_volts_and_amperes(power_chip: Path) -> None:
    power_chip.write_text(
        " 3V3_SYS_A current(1)=0.50000000A\n VDD_CORE_A current(7)=2.00000000A\n 3V3_SYS_V volt(9)=3.30000000V\n"
        " VDD_CORE_V volt(15)=0.90000000V\n EXT5V_V volt(24)=5.10000000V\n"
    )
    meter = find_meter()
    begin = time.monotonic()
    meter.start()
    time.sleep(1)
    assert meter.source == "pmic"
    assert meter.stop() == pytest.approx((1.65 + 1.8) * (time.monotonic() - begin), rel=0.1)


def test_a_power_chip_that_tells_nothing_is_no_counter(power_chip: Path) -> None:
    power_chip.write_text('error=1 error_msg="Command not registered"\n')
    with pytest.raises(NoEnergyError, match="the power chip cannot be read: vcgencmd pmic_read_adc tells no rail"):
        find_meter()
    power_chip.unlink()  # as on a board without one
    with pytest.raises(NoEnergyError, match="neither RAPL nor a power rail"):
        find_meter()


def test_a_rail_that_fails_within_a_window_gives_no_sum(sysfs: Path) -> None:
    folder = sysfs / "class/hwmon/hwmon0"
    folder.mkdir(parents=True)
    (folder / "power1_input").write_text("5000000\n")
    meter = find_meter()
    meter.start()
    time.sleep(0.1)
    (folder / "power1_input").unlink()
    with pytest.raises(FileNotFoundError):
        meter.stop()


def test_a_counter_that_holds_no_number_is_a_reason(machine: Machine) -> None:
    machine.with_rapl().counter.write_text("\n")
    with pytest.raises(NoEnergyError, match="RAPL cannot be read: invalid literal"):
        find_meter()


def test_of_several_rails_one_must_be_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.with_rail(0).with_rail(1)
    with pytest.raises(
        NoEnergyError, match=r"several power rails, hwmon0/power1, hwmon1/power1: HWNAS_POWER_RAIL says"
    ):
        find_meter()
    monkeypatch.setenv("HWNAS_POWER_RAIL", "hwmon1/power1")
    assert find_meter().source == "hwmon hwmon1/power1"
    monkeypatch.setenv("HWNAS_POWER_RAIL", "vdd")
    with pytest.raises(NoEnergyError, match=r"HWNAS_POWER_RAIL must be one of hwmon0/power1, .* got 'vdd'"):
        find_meter()


def test_a_counter_that_may_not_be_read_is_named_with_the_mend(machine: Machine) -> None:
    machine.with_rapl().counter.chmod(0o400)
    user = os.geteuid()
    if user:
        machine.counter.chmod(0)
    else:
        os.seteuid(65534)
    try:
        with pytest.raises(
            NoEnergyError, match=r"energy_uj may not be read: `sudo chmod a\+r /.*energy_uj` lets it be"
        ):
            find_meter()
    finally:
        os.seteuid(user)


def test_work_that_does_not_stand_out_from_rest_has_no_energy(machine: Machine) -> None:
    machine.with_rapl().start()
    machine.watts = lambda: 10 if machine.busy else 20
    assert EnergyPerInference(find_meter(), 0.2).measure_mj(machine.work) is None


def test_a_gpu_without_its_library_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoEnergyError, match=r"nvidia-ml-py is not installed; `pip install 'hwnas\[nvml\]'`|NVML: "):
        find_meter(gpu=99)


def test_a_device_on_this_machine_tells_the_energy_of_its_process(machine: Machine) -> None:
    def cpu_seconds() -> float:
        found = 0.0
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end between two looks at it
                if child.status() != psutil.STATUS_ZOMBIE:
                    found += child.cpu_times().user + child.cpu_times().system
        return found

    begin = time.monotonic()
    machine.with_rapl()
    # 5 W at rest and 10 W more while the process of the device works.
    machine._value = lambda: 5e6 * (time.monotonic() - begin) + 10e6 * cpu_seconds()  # type: ignore[method-assign]
    machine.start()
    device = get_device("local/onnxruntime")
    timing = device.measure_block([device.reference("fp32")], threads=1, plan=PLAN).results[0].timing
    assert timing
    assert timing.energy_source == "rapl package-0"
    assert timing.energy_mj
    assert 0.1 < timing.energy_mj < 50  # 10 mJ a millisecond, of a network of 0.04 to 0.4 ms and its caller


def test_a_machine_without_a_counter_says_so_once_and_measures_the_rest(
    sysfs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device = get_device("local/onnxruntime")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            result = device.measure_block([device.reference("fp32")], threads=1, plan=PLAN).results[0]
            assert result.timing
            assert (result.timing.energy_mj, result.timing.energy_source) == (None, None)
    assert caplog.text.count("energy cannot be told: neither RAPL nor a power rail under") == 1
