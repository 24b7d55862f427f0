"""Energy counters of the machine that runs the networks; read by `runner.py`, on the device itself.

Self-contained (standard library; Python 3.9 or later), so that it can be copied to a board. Kinds:

- RAPL: the processor packages, counted by the processor (Linux ``powercap``; the counter goes round);
- power rails: sensors such as INA219, INA226, INA3221 on boards (Linux ``hwmon``), read 50 times a second and summed;
- the power chip of a Raspberry Pi 5 (``vcgencmd pmic_read_adc``), 5 times a second, as each reading is a process;
- NVML: the whole GPU, counted by its driver since it was loaded (package ``nvidia-ml-py``).

All count everything that happens meanwhile, so the machine must be idle beside the measurement; what it draws at rest
is measured over a window of its own and subtracted. A figure is the mean over a window of `LEAST_SECONDS` or more: RAPL
is refreshed about every millisecond, sensors and GPUs every few tens of them.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

LEAST_SECONDS = 10.0
SAMPLE_SECONDS = 0.02
PMIC_SAMPLE_SECONDS = 0.2
PMIC_COMMAND = ("vcgencmd", "pmic_read_adc")
_UNREADABLE = (OSError, ValueError, subprocess.SubprocessError)
ROOT_VARIABLE = "HWNAS_SYSFS"
"""Where sysfs is mounted, for containers that see the host's elsewhere."""
RAIL_VARIABLE = "HWNAS_POWER_RAIL"
"""Which of several power rails feeds the board, such as ``hwmon2/power1``."""


class NoEnergyError(Exception):
    """No counter can be read; the text says why and what helps."""


class EnergyMeter(Protocol):
    """Energy between two moments, in joules.

    Attributes:
        source: which counter, such as ``rapl package-0``.
    """

    source: str

    def start(self) -> None:
        """Begins a window."""

    def stop(self) -> float:
        """Ends the window; returns its joules."""


class CounterMeter:
    """Counters that only rise, up to a range at which they begin anew.

    Args:
        source: which.
        reads: one for each counter, in units of ``joules``.
        ranges: value at which each begins anew; None for never.
        joules: of one unit.
    """

    def __init__(self, source: str, reads: list[Callable[[], int]], ranges: list[int | None], joules: float) -> None:
        self.source, self._reads, self._ranges, self._joules = source, reads, ranges, joules
        self._before: list[int] = []

    def start(self) -> None:
        """As `EnergyMeter.start`."""
        self._before = [read() for read in self._reads]

    def stop(self) -> float:
        """As `EnergyMeter.stop`; a window in which a counter begins anew twice would be too long."""
        total = 0
        for read, before, limit in zip(self._reads, self._before, self._ranges):  # noqa: B905 (Python 3.9)
            grown = read() - before
            total += grown if grown >= 0 or limit is None else grown + limit
        return total * self._joules


class PowerMeter:
    """A sensor of momentary power, summed by a thread with the trapezoidal rule.

    Args:
        source: which.
        watts: reads it.
        sample_seconds: between two readings.
    """

    def __init__(self, source: str, watts: Callable[[], float], sample_seconds: float = SAMPLE_SECONDS) -> None:
        self.source, self._watts, self._sample_seconds = source, watts, sample_seconds
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._sum = 0.0
        self._error: Exception | None = None

    def start(self) -> None:
        """As `EnergyMeter.start`."""
        self._over.clear()
        self._sum, self._error = 0.0, None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """As `EnergyMeter.stop`."""
        assert self._thread
        self._over.set()
        self._thread.join()
        if self._error:
            raise self._error
        return self._sum

    def _follow(self) -> None:
        try:
            self._add_up()
        except _UNREADABLE as error:  # a sum of part of the window would be too small
            self._error = error

    def _add_up(self) -> None:
        then, before = time.monotonic(), self._watts()
        over = False
        while not over:
            over = self._over.wait(self._sample_seconds)
            now, watts = time.monotonic(), self._watts()
            self._sum += (now - then) * (watts + before) / 2
            then, before = now, watts


def find_meter(gpu: int | str | None = None) -> EnergyMeter:
    """Returns the counter of this machine's processor, or of a GPU.

    Args:
        gpu: number or UUID of an NVIDIA GPU.

    Raises:
        NoEnergyError: none can be read.
    """
    if gpu is not None:
        return _nvml_meter(gpu)
    root = os.environ.get(ROOT_VARIABLE, "/sys")
    refused = []
    for kind, find in (("RAPL", _rapl_meter), ("power rails", _rail_meter), ("the power chip", _pmic_meter)):
        try:
            found = find(root)
        except PermissionError as error:
            refused.append(f"{error.filename} may not be read: `sudo chmod a+r {error.filename}` lets it be")
        except _UNREADABLE as error:
            refused.append(f"{kind} cannot be read: {error}")
        else:
            if found:
                return found
    raise NoEnergyError("; ".join(refused) or f"neither RAPL nor a power rail under {root}/class, nor vcgencmd")


def _rapl_meter(root: str) -> EnergyMeter | None:
    names: list[str] = []
    reads: list[Callable[[], int]] = []
    ranges: list[int | None] = []
    for folder in sorted(glob.glob(f"{root}/class/powercap/intel-rapl:*")):
        name = _text(f"{folder}/name")
        if name.startswith("package"):  # others are parts of a package
            names.append(name)
            reads.append(_reader(f"{folder}/energy_uj"))
            ranges.append(int(_text(f"{folder}/max_energy_range_uj")))
    for read in reads:
        read()
    return CounterMeter("rapl " + " ".join(names), reads, ranges, 1e-6) if names else None


def _rail_meter(root: str) -> EnergyMeter | None:
    rails: dict[str, Callable[[], float]] = {}
    for path in sorted(glob.glob(f"{root}/class/hwmon/hwmon*/power*_input")):
        rails[_rail(path, "_input")] = _watts(_reader(path))
    for path in sorted(glob.glob(f"{root}/class/hwmon/hwmon*/curr*_input")):
        voltage = path.replace("/curr", "/in")
        if os.path.exists(voltage):  # INA3221 tells volts and amperes only
            rails[_rail(path, "_input").replace("/curr", "/power")] = _product(_reader(voltage), _reader(path))
    chosen = os.environ.get(RAIL_VARIABLE)
    if chosen is None and len(rails) > 1:
        raise NoEnergyError(f"several power rails, {', '.join(rails)}: {RAIL_VARIABLE} says which feeds the board")
    if chosen is not None and chosen not in rails:
        raise NoEnergyError(f"{RAIL_VARIABLE} must be one of {', '.join(rails) or 'none'}, got {chosen!r}")
    for name, watts in rails.items():
        if name == (chosen or name):
            watts()
            return PowerMeter(f"hwmon {name}", watts)
    return None


def _pmic_meter(root: str) -> EnergyMeter | None:
    if not shutil.which(PMIC_COMMAND[0]):
        return None

    def watts() -> float:
        text = subprocess.run(PMIC_COMMAND, capture_output=True, text=True, timeout=10, check=True).stdout
        # Lines such as `VDD_CORE_A current(7)=1.957A` and `VDD_CORE_V volt(15)=0.883V`; some rails tell only volts.
        told = {(rail, unit): float(value) for rail, unit, value in re.findall(r"(\w+)_([AV])\b[^=\n]*=([\d.]+)", text)}
        rails = [rail for rail, unit in told if unit == "A" and (rail, "V") in told]
        if not rails:
            raise ValueError(f"{' '.join(PMIC_COMMAND)} tells no rail's volts and amperes")
        return sum(told[rail, "A"] * told[rail, "V"] for rail in rails)

    try:
        watts()
    except subprocess.CalledProcessError:  # a board without such a chip
        return None
    return PowerMeter("pmic", watts, PMIC_SAMPLE_SECONDS)


def _nvml_meter(gpu: int | str) -> EnergyMeter:
    try:
        import pynvml

        pynvml.nvmlInit()
        by_name = pynvml.nvmlDeviceGetHandleByUUID if isinstance(gpu, str) else pynvml.nvmlDeviceGetHandleByIndex
        handle = by_name(gpu)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except ImportError:
        raise NoEnergyError(
            "the package nvidia-ml-py is not installed; `pip install 'hwnas[nvml]'` brings it"
        ) from None
    except Exception as error:  # NVML's own error, of a module that may not be there
        raise NoEnergyError(f"NVML: {error}") from None

    def read() -> int:
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))

    return CounterMeter(f"nvml {gpu}", [read], [None], 1e-3)


def _text(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _reader(path: str) -> Callable[[], int]:
    return lambda: int(_text(path))


def _watts(read_uw: Callable[[], int]) -> Callable[[], float]:
    return lambda: read_uw() * 1e-6


def _product(read_mv: Callable[[], int], read_ma: Callable[[], int]) -> Callable[[], float]:
    return lambda: read_mv() * read_ma() * 1e-6


def _rail(path: str, suffix: str) -> str:
    return "/".join(path.split("/")[-2:])[: -len(suffix)]


class EnergyPerInference:
    """Energy of inferences beyond what the machine draws at rest; made while nothing runs.

    Args:
        meter: that counts.
        seconds: length of each window.
    """

    def __init__(self, meter: EnergyMeter, seconds: float) -> None:
        self.meter, self._seconds = meter, seconds
        self._idle_watts, _ = self._window(lambda: time.sleep(0.1))

    def measure_mj(self, invoke: Callable[[], Any]) -> float | None:
        """Returns millijoules of one inference; None where they do not stand out from rest."""
        watts, seconds = self._window(invoke)
        above_mj = (watts - self._idle_watts) * seconds * 1e3
        return above_mj if above_mj > 0 else None

    def _window(self, work: Callable[[], Any]) -> tuple[float, float]:
        """Returns the mean power in watts while work is repeated, and the seconds of one repetition."""
        count, begin = 0, time.monotonic()
        self.meter.start()
        while count == 0 or time.monotonic() - begin < self._seconds:
            work()
            count += 1
        joules = self.meter.stop()
        seconds = time.monotonic() - begin
        return joules / seconds, seconds / count
