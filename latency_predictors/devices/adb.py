"""Android phones over ``adb``, with LiteRT's own ``benchmark_model``.

The phone needs nothing but that program, at `PROGRAM`. Each model is one launch of it, pinned to the fastest cores, and
what it prints is read: median, first inference, initialization, memory. The core's clock, read beside it, is the speed
probe: the time of `PROBE_CYCLES` cycles. A launch while the phone says that it throttles (Android's thermal status)
counts for nothing.
"""

import logging
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from latency_predictors.devices.base import Block, BlockPlan, BlockResult, Device, DeviceError, DeviceHungError, Timing
from latency_predictors.devices.lease import PATIENCE_SECONDS, lease
from latency_predictors.devices.runner_device import REFERENCES
from latency_predictors.environment import Environment
from search_spaces.cost import Precision
from search_spaces.errors import InputError

logger = logging.getLogger(__name__)

PROGRAM = "/data/local/tmp/benchmark_model"
"""Where a phone lets a program lie and be started without root."""
FOLDER = "/data/local/tmp/hwnas"
ADB_SECONDS = 60.0
"""For a short command; the first one also starts adb's server."""
SLOWEST_BYTES_PER_SECOND = 100_000
PROBE_CYCLES = 10_000
THROTTLED = 1
"""The least thermal status that throttles (`PowerManager.THERMAL_STATUS_LIGHT`)."""
BUSY = 75
"""Exit status of a launch that another host's one keeps waiting (EX_TEMPFAIL of sysexits.h)."""
NOT_EXECUTABLE, NOT_FOUND, KILLED = 126, 127, 128
"""Exit statuses of shells; above the last one a signal."""
END = "hwnas-status"

FACTS = f"""
mkdir -p {FOLDER}
echo model=$(getprop ro.product.manufacturer) $(getprop ro.product.model)
echo chip=$(getprop ro.soc.model)
echo android=$(getprop ro.build.version.release)
echo kernel=$(uname -r)
echo machine=$(uname -m)
echo cores=$(nproc)
echo program=$(test -x {PROGRAM} && sha256sum {PROGRAM})
for c in /sys/devices/system/cpu/cpu[0-9]*; do
  read f < $c/cpufreq/cpuinfo_max_freq && echo clock=${{c##*cpu}}:$f
done 2>/dev/null
echo {END}=0
"""
LAUNCH = """
cd {folder} || exit 1
exec 9>lock
flock -n 8 8>&9 2>/dev/null
if [ $? = 1 ]; then echo {end}={busy}; exit; fi
limit=
command -v timeout >/dev/null && limit="timeout -s KILL {limit}"
$limit sh -c 'echo $$ >{graph}.pid; exec taskset {mask} {program} {options}' 8>&9 >out 2>&1 &
while kill -0 $! 2>/dev/null; do
  sleep 0.05
  read f < /sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq && echo khz=$f
done 2>/dev/null
wait $!
status=$?
rm -f {graph}.pid {graph}
cat out
echo thermal=$(dumpsys thermalservice 2>/dev/null | grep 'Thermal Status')
echo {end}=$status
"""
"""Prints the clock while the program runs, then what it printed; its own exit status comes last, so that an answer
without one is a lost connection. File 9 is the phone's lock: it ends with the launch, however that ends. Android's
shell, mksh, keeps files that `exec` opened from the programs it starts, hence file 8."""


@dataclass(frozen=True)
class _Phone:
    """What a phone says of itself.

    Attributes:
        environment: of a measurement.
        cpus: numbers of its cores, the fastest first.
    """

    environment: Environment
    cpus: tuple[int, ...]


class AdbLitertDevice(Device):
    """A phone with LiteRT's ``benchmark_model``.

    Those who measure on the phone wait for each other, on this host and on others.

    Args:
        serial: as ``adb devices`` prints it.

    Raises:
        InputError: no such serial number is possible.
    """

    name = "adb/SERIAL/litert"
    runtime = "litert"
    suffix = ".tflite"

    def __init__(self, serial: str) -> None:
        if not re.fullmatch(r"\w[\w.:-]*", serial):
            raise InputError(f"a phone is named by its serial number, as `adb devices` prints it, got {serial!r}")
        self.serial = serial
        self.name = f"adb/{serial}/litert"

    def measure_block(self, models: Sequence[Path], *, threads: int, plan: BlockPlan) -> Block:
        """As `Device.measure_block`, but each model has a process of its own."""
        with lease(self.name, f"adb-{self.serial}") as leased:
            started = time.monotonic()
            phone = self._phone()
            if threads > len(phone.cpus):
                raise DeviceError(
                    f"device {self.name} cannot measure: {threads} threads need as many cores, and "
                    f"{len(phone.cpus)} can be used here"
                )
            results: list[BlockResult] = []
            for model in models:
                leased.renew(PATIENCE_SECONDS + ADB_SECONDS + plan.timeout_seconds)
                result, over = self._time(model, phone.cpus[:threads], plan)
                results.append(result)
                if over:
                    break
            seconds = time.monotonic() - started
        probes = [result.timing.probe_ns for result in results if result.timing and result.timing.probe_ns]
        return Block(phone.environment, min(probes, default=None), seconds, tuple(results))

    def reference(self, precision: Precision) -> Path:
        """As `Device.reference`."""
        return REFERENCES / f"{precision}{self.suffix}"

    def _time(self, model: Path, cpus: Sequence[int], plan: BlockPlan) -> tuple[BlockResult, bool]:
        """Returns what became of a model, and whether the program was taken down."""
        if not model.is_file():
            return BlockResult(model, None, f"no model file at {model}"), False
        seconds = model.stat().st_size / SLOWEST_BYTES_PER_SECOND
        # Of this launch alone, as is its process's number beside it: another host may be at its own.
        graph = f"{FOLDER}/model-{uuid4().hex}"
        pushed = self._answer(["push", str(model), graph], seconds)
        if pushed.returncode:
            raise self._lost(pushed)
        options = {
            "graph": graph,
            "num_threads": len(cpus),
            "use_xnnpack": "true",
            "warmup_runs": 1,
            "warmup_min_secs": plan.warmup_ms / 1e3,
            "num_runs": plan.min_inferences,
            "min_secs": plan.window_ms / 1e3,
            "max_secs": plan.timeout_seconds,
        }
        script = LAUNCH.format(
            folder=FOLDER,
            graph=graph,
            program=PROGRAM,
            mask=f"{sum(1 << cpu for cpu in cpus):x}",
            cpu=cpus[0],
            options=" ".join(f"--{key}={value}" for key, value in options.items()),
            limit=int(plan.timeout_seconds) + 5,
            busy=BUSY,
            end=END,
        )
        kill = ["shell", f"kill -9 $(cat {graph}.pid); rm -f {graph}.pid {graph}"]
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                lines = self._printed(self._adb(["shell", script], plan.timeout_seconds))
            except subprocess.TimeoutExpired:
                self._answer(kill)
                failure = f"no answer within {plan.timeout_seconds:g} s; the process was killed"
                return BlockResult(model, None, failure, hung=True), True
            except KeyboardInterrupt:
                with suppress(DeviceError):
                    self._answer(kill)
                raise
            status = int(lines[-1].partition("=")[2])
            if status != BUSY:
                break
            if time.monotonic() > end:
                self._answer(["shell", f"rm -f {graph}"])
                raise DeviceError(f"device {self.name} is measured by another host; end that, or wait for it")
            time.sleep(1)
        if status > KILLED:
            return BlockResult(model, None, f"the process ended (signal {status - KILLED})"), True
        if status:
            words = next((line for line in reversed(lines) if line.startswith("ERROR")), "")
            failure = f"benchmark_model ended with exit status {status}" + (f": {words}" if words else "")
            return BlockResult(model, None, failure), False
        timing = read_timing(lines)
        if timing.median_ms is None:
            logger.warning("%s throttles because it is hot: let it cool", self.name)
        return BlockResult(model, timing), False

    def _phone(self) -> _Phone:
        lines = self._printed(self._answer(["shell", FACTS]))
        facts = dict(line.partition("=")[::2] for line in lines if not line.startswith("clock="))
        if not facts["program"]:
            raise DeviceError(
                f"device {self.name} has no program {PROGRAM}: `adb -s {self.serial} push benchmark_model {PROGRAM}` "
                f"and `adb -s {self.serial} shell chmod +x {PROGRAM}` put LiteRT's benchmark_model there"
            )
        # The fastest cores are the last ones on every big.LITTLE chip; where clocks cannot be read, that decides.
        clocks = dict.fromkeys(range(int(facts["cores"])), 0)
        for line in lines:
            if line.startswith("clock="):
                cpu, _, khz = line.removeprefix("clock=").partition(":")
                clocks[int(cpu)] = int(khz)
        environment = Environment(
            cpu=f"{facts['model']} {facts['chip']}".strip() or "unknown phone",
            cores=int(facts["cores"]),
            machine=facts["machine"],
            system=f"Android {facts['android']} Linux {facts['kernel']}",
            python="none",
            runtime=f"LiteRT benchmark_model sha256 {facts['program'][:12]}",
        )
        return _Phone(environment, tuple(sorted(clocks, key=lambda cpu: (clocks[cpu], cpu), reverse=True)))

    def _printed(self, done: "subprocess.CompletedProcess[str]") -> list[str]:
        """Returns what a script on the phone printed, its status last."""
        lines = done.stdout.strip().splitlines()
        if not lines or not lines[-1].startswith(f"{END}="):
            raise self._lost(done)
        return lines

    def _answer(self, words: Sequence[str], more_seconds: float = 0) -> "subprocess.CompletedProcess[str]":
        try:
            return self._adb(words, ADB_SECONDS + more_seconds)
        except subprocess.TimeoutExpired:
            raise DeviceHungError(
                f"device {self.name} no longer answers: restart the phone, or plug it in again"
            ) from None

    def _adb(self, words: Sequence[str], seconds: float) -> "subprocess.CompletedProcess[str]":
        # A session of its own: Ctrl-C in a terminal must not reach the phone before this process can end the launch.
        return subprocess.run(
            [self._program, "-s", self.serial, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            start_new_session=True,
        )

    @property
    def _program(self) -> str:
        program = shutil.which("adb")
        if program is None:
            raise DeviceError(
                f"device {self.name} needs the program `adb`; install Android's platform tools (apt-get install adb)"
            )
        return program

    def _lost(self, done: "subprocess.CompletedProcess[str]") -> DeviceError:
        """Returns why adb did not do what it was asked, in words of what it sees of the phone."""
        listed = self._answer(["devices"]).stdout.splitlines()[1:]
        states = dict(line.split("\t", 1) for line in listed if "\t" in line)
        state = states.get(self.serial)
        if state is None:
            seen = ", ".join(states) or "none"
            return DeviceError(
                f"device {self.name}: no phone {self.serial} is connected, `adb devices` lists {seen}: plug it in and "
                "turn USB debugging on"
            )
        if state != "device":
            return DeviceError(
                f"device {self.name}: adb says {state!r} of the phone; `adb devices` must say 'device': allow USB "
                "debugging on its screen"
            )
        words = (done.stderr or done.stdout).strip().splitlines()
        return DeviceError(f"device {self.name}: the connection was lost" + (f": {words[-1]}" if words else ""))


def read_timing(lines: Sequence[str]) -> Timing:
    """Returns the timing that ``benchmark_model`` prints, with the clock and the thermal status around it.

    The program's times are whole microseconds; of the inferences it prints the median and no 90th percentile.

    Raises:
        DeviceError: the program is too old to print a median.
    """
    text = "\n".join(lines)
    found = re.search(r"Init: ([\d.e+]+), First inference: ([\d.e+]+),", text)
    runs = re.findall(r"^count=(\d+).*?\bmedian=(\d+)", text, re.MULTILINE)
    if not found or not runs:
        raise DeviceError(
            f"{PROGRAM} does not print what is read of it (a median, Init, First inference): push a newer build"
        )
    memory = re.search(r"Memory footprint delta .*overall=([\d.e+]+)", text)
    status = re.search(r"^thermal=Thermal Status: (\d+)", text, re.MULTILINE)
    clocks = [int(line.removeprefix("khz=")) for line in lines if re.fullmatch(r"khz=[1-9]\d*", line)]
    throttled = status is not None and int(status[1]) >= THROTTLED
    inferences, median_us = map(int, runs[-1])
    # The clock rises while the program loads the model; the later half belongs to the timed inferences.
    khz = float(np.median(clocks[len(clocks) // 2 :])) if clocks else None
    return Timing(
        load_ms=max(1.0, float(found[1])) / 1e3,
        first_inference_ms=max(1.0, float(found[2])) / 1e3,
        inferences=inferences,
        quiet_share=0.0 if throttled else 1.0,
        median_ms=None if throttled else max(1, median_us) / 1e3,
        p90_ms=None,
        probe_ns=round(PROBE_CYCLES * 1e6 / khz) if khz and not throttled else None,
        peak_memory_mb=max(0.0, float(memory[1])) * 2**20 / 1e6 if memory else None,
    )
