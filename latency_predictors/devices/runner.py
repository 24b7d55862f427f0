"""Times model files; runs on the device itself, as a process of its own, once per block.

Self-contained (standard library, numpy, one inference runtime; Python 3.9 or later), so that it can be copied to a
board and started there: ``python runner.py``. One JSON object per line; the first line from the host says how to time,
each further one names a model, and each is answered by one line. The process ends when its input does, and kills itself
when one model takes longer than the host's time limit, so that it outlives neither a dead host nor a hung runtime.

How a model is timed:

1. load, and one first inference, both timed apart; from here to the end the peak of resident memory is followed;
2. warm-up: windows of inferences until the fastest of a window is no longer 2 % faster than before;
3. single inferences with a nanosecond clock, in *bursts* of one inference or about 0.1 ms, with a *speed probe*
   before and after each: a fixed multiplication of two large integers, a few microseconds long, done once untimed, as
   the inference has filled the caches. A burst is **quiet** when both probes took at most 1.35 times the fastest known
   one: the core was not shared. Only quiet bursts count; the median of the probes after them tells the clock to 1 %;
4. where energy is asked for, inferences for the length of its window, between two looks at the counter (`energy.py`).

Why probes: a core is often not one's own even where no other process runs on it. On a virtual machine whose two cores
are the two threads of one physical core, work on the other core doubles every latency, in slices of milliseconds; the
same network then shows block medians that differ by a third, and 5 blocks give intervals of +-30 to 50 %. The probe
sees the core's state without looking at the network's latency, so choosing by it does not favour fast inferences; under
the same load it gives +-1 %. Where quiet moments are too rare the runner says so instead of giving a number. A slower
clock is for the host to judge (`latency_predictors/protocol.py`), as processors lower it while wide vector units work
(seen on a Xeon with AVX-512: probes 10 to 30 % longer beside networks in FP32 than alone).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import platform
import runpy
import signal
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

Invoke = Callable[[], object]
"""One inference; returns its nanoseconds where the runtime has a clock of its own that tells them better."""
clock = time.perf_counter_ns

BURST_NS = 100_000
QUIET = 1.35
"""A core that shares its arithmetic units is 1.5 to 2 times slower; a clock lowered for vector units, 1.3 times."""
WARM = 0.98
WARMUP_WINDOW_NS = 2_000_000
MIN_QUIET_INFERENCES = 8
MIN_QUIET_NS = 500_000
CALIBRATION_NS = 30_000_000


class SpeedProbe:
    """Times a fixed piece of arithmetic of about 5 microseconds.

    Attributes:
        floor: fastest known duration in nanoseconds: the fifth fastest of this process, as a guard against a glitch of
            the clock, or the host's from earlier processes.
    """

    def __init__(self, known_floor_ns: int | None) -> None:
        self._left, self._right = 3**1900, 5**1200
        self._fastest = [sys.maxsize] * 5
        self.floor = known_floor_ns or sys.maxsize
        end = clock() + CALIBRATION_NS
        while clock() < end:
            self()

    def __call__(self) -> int:
        """Returns how long the arithmetic took just now, in nanoseconds."""
        self._left * self._right  # caches hold the inference's data and code
        start = clock()
        self._left * self._right
        duration = clock() - start
        if duration < self._fastest[-1]:
            self._fastest = sorted([*self._fastest[:-1], duration])
            self.floor = min(self.floor, self._fastest[-1])
        return duration

    @property
    def own_floor(self) -> int:
        """The fifth fastest duration of this process alone."""
        return self._fastest[-1]


def warm_up(invoke: Invoke, limit_ns: int) -> None:
    """Runs inferences until they no longer get faster, or until the limit."""
    end = clock() + limit_ns
    fastest: int | None = None
    while clock() < end:
        window = fastest_of_window(invoke)
        if fastest is not None and window > WARM * fastest:
            return
        fastest = window if fastest is None else min(window, fastest)


def timed(invoke: Invoke) -> int:
    """Returns the nanoseconds of one inference."""
    start = clock()
    told = invoke()
    end = clock()
    return told if isinstance(told, int) else end - start


def fastest_of_window(invoke: Invoke) -> int:
    """Returns the fastest of at least three inferences, in nanoseconds."""
    durations: list[int] = []
    end = clock() + WARMUP_WINDOW_NS
    while len(durations) < 3 or clock() < end:
        durations.append(timed(invoke))
    return min(durations)


def time_quietly(
    invoke: Invoke, probe: SpeedProbe, *, window_ns: int, min_inferences: int, patience: float
) -> dict[str, Any]:
    """Returns median and 90th percentile of quiet inferences (None where there are too few), and the quiet share."""
    quiet: list[tuple[int, int, list[int]]] = []  # (slower probe of a burst, the one after it, durations)
    quiet_ns = timed_ns = inferences = 0
    fastest = sys.maxsize
    floor = probe.floor
    started = clock()
    before = probe()
    while True:
        # In a disturbed moment one inference is enough before looking again: quiet moments can be short.
        limit = BURST_NS if before <= QUIET * probe.floor else 0
        burst: list[int] = []
        begin = end = clock()
        while not burst or end - begin < limit:
            burst.append(timed(invoke))
            end = clock()
        after = probe()
        timed_ns += sum(burst)
        fastest = min(fastest, min(burst))
        if max(before, after) <= QUIET * probe.floor:
            quiet.append((max(before, after), after, burst))
            quiet_ns += sum(burst)
            inferences += len(burst)
        before = after
        if probe.floor < floor:
            # The process has just learned that the core can be faster; what seemed quiet may not have been.
            floor = probe.floor
            quiet = [item for item in quiet if item[0] <= QUIET * floor]
            quiet_ns = sum(sum(durations) for *_, durations in quiet)
            inferences = sum(len(durations) for *_, durations in quiet)
        if quiet_ns >= window_ns and inferences >= min_inferences:
            break
        if clock() - started > patience * max(window_ns, min_inferences * fastest):
            break
    enough = inferences >= min(MIN_QUIET_INFERENCES, min_inferences) and quiet_ns >= min(MIN_QUIET_NS, window_ns)
    durations_ms = np.array([duration for *_, burst in quiet for duration in burst]) / 1e6
    return {
        "inferences": inferences,
        "quiet_share": quiet_ns / timed_ns,
        "median_ms": float(np.median(durations_ms)) if enough else None,
        "p90_ms": float(np.percentile(durations_ms, 90)) if enough else None,
        "probe_ns": int(np.median([after for _, after, _ in quiet])) if enough else None,
    }


def load_onnxruntime(path: str, threads: int) -> Invoke:
    """Returns one inference of an ONNX file: inputs and outputs bound, so that nothing is copied."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for tensor in session.get_inputs():
        shape = [side if isinstance(side, int) else 1 for side in tensor.shape]
        dtype = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}[tensor.type]
        binding.bind_ortvalue_input(tensor.name, onnxruntime.OrtValue.ortvalue_from_numpy(random_input(shape, dtype)))
    for tensor in session.get_outputs():
        binding.bind_output(tensor.name)
    return lambda: session.run_with_iobinding(binding)


def load_litert(path: str, threads: int) -> Invoke:
    """Returns one inference of a TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], random_input(tensor["shape"], tensor["dtype"]))
    invoke: Invoke = interpreter.invoke
    return invoke


def load_openvino(path: str, threads: int) -> Invoke:
    """Returns one inference of an ONNX file; the first image that a batch of any size begins with."""
    import openvino

    model = openvino.Core().read_model(path)
    shapes = {
        tensor.get_any_name(): [1 if side.is_dynamic else side.get_length() for side in tensor.get_partial_shape()]
        for tensor in model.inputs
    }
    model.reshape(shapes)
    compiled = openvino.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # this process is pinned
            "INFERENCE_PRECISION_HINT": "f32",  # or FP32 files run in 16 bits where the CPU has units for it
        },
    )
    request = compiled.create_infer_request()
    for tensor in compiled.inputs:
        values = random_input(shapes[tensor.get_any_name()], tensor.get_element_type().to_dtype())
        request.set_tensor(tensor, openvino.Tensor(values))
    infer: Invoke = request.infer
    return infer


def random_input(shape: Any, dtype: Any) -> Any:
    """Returns values in the range of preprocessed images, the same each time; zeros would let some kernels cheat."""
    values = np.random.default_rng(0).standard_normal(shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * 32 + 64).clip(0, 127).astype(dtype)


LOADERS: dict[str, Callable[[str, int], Invoke]] = {
    "onnxruntime": load_onnxruntime,
    "litert": load_litert,
    "openvino": load_openvino,
}


class MemoryPeak:
    """Follows how much resident memory a model adds; Linux alone tells (proc(5): clear_refs, VmHWM, VmRSS).

    Memory that earlier models have left to the allocator is given back first, or the next one would seem to need less.
    """

    def __init__(self) -> None:
        gc.collect()
        self._before_kb: int | None = None
        with contextlib.suppress(AttributeError, OSError):  # C libraries other than GNU's keep little
            ctypes.CDLL(None).malloc_trim(0)
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew
            file.flush()
            self._before_kb = self._read_kb("VmRSS:")

    def growth_mb(self) -> float | None:
        """Returns peak less start in 10^6 bytes; None where the system does not tell."""
        peak = self._read_kb("VmHWM:") if self._before_kb is not None else None
        return None if peak is None or self._before_kb is None else max(0, peak - self._before_kb) * 1024 / 1e6

    @staticmethod
    def _read_kb(field: str) -> int | None:
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(field)), None)


def energy_meter(plan: dict[str, Any], gpu: int | str | None) -> tuple[Any, str]:
    """Returns what measures energy of this machine or a GPU, made while it is at rest; or why nothing does."""
    energy = runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "energy.py"))
    try:
        return energy["EnergyPerInference"](energy["find_meter"](gpu), plan["energy_seconds"]), ""
    except (energy["NoEnergyError"], OSError, ValueError) as error:
        return None, str(error)


def measure(path: str, plan: dict[str, Any], probe: SpeedProbe, energy: Any) -> dict[str, Any]:
    """Returns the timing of one model, as the host's `Timing`."""
    memory = MemoryPeak()
    start = clock()
    invoke = LOADERS[plan["runtime"]](path, plan["threads"])
    loaded = clock()
    invoke()
    first = clock()
    warm_up(invoke, int(plan["warmup_ms"] * 1e6))
    timing = time_quietly(
        invoke,
        probe,
        window_ns=int(plan["window_ms"] * 1e6),
        min_inferences=plan["min_inferences"],
        patience=plan["patience"],
    )
    return {
        "load_ms": (loaded - start) / 1e6,
        "first_inference_ms": (first - loaded) / 1e6,
        "peak_memory_mb": getattr(invoke, "peak_memory_mb", memory.growth_mb)(),
        "energy_mj": energy.measure_mj(invoke) if energy else None,
        "energy_source": energy.meter.source if energy else None,
        **timing,
    }


def pin(threads: int) -> int:
    """Binds this process to as many of its cores as threads; the last ones, as the first serve most interrupts.

    Returns:
        How many cores the process could have used.
    """
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise ValueError(f"{threads} threads need as many cores, and {len(cores)} can be used here")
    os.sched_setaffinity(0, cores[-threads:])
    return len(cores)


def _onnxruntime_version() -> str:
    import onnxruntime

    return "ONNX Runtime " + str(onnxruntime.__version__)


def _litert_version() -> str:
    import ai_edge_litert.interpreter

    return "LiteRT " + version(ai_edge_litert.__name__)


def _openvino_version() -> str:
    # Its telemetry reports from a forked process when it reads a model, which disturbs and can outlive this one.
    # The first import decides: without the package OpenVINO reports nothing.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return "OpenVINO " + str(openvino.__version__.split("-")[0])


VERSIONS = {"onnxruntime": _onnxruntime_version, "litert": _litert_version, "openvino": _openvino_version}
"""Name and version of each runtime; fails here, not at the first model, where one is not installed."""


def environment(runtime: str, cores: int) -> dict[str, Any]:
    """Returns the machine and the software, as the host's `Environment`."""
    return {
        "cpu": cpu_name(),
        "cores": cores,
        "machine": platform.machine(),
        "system": platform.system() + " " + platform.release(),
        "python": platform.python_version(),
        "runtime": VERSIONS[runtime](),
    }


def cpu_name() -> str:
    """Returns the processor's model name, on boards without one the board's."""
    for path, prefix in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        try:
            with open(path, errors="replace") as file:
                for line in file:
                    if line.startswith(prefix):
                        return line.split(":")[-1].strip(" \t\n\0")
        except OSError:
            continue
    return platform.processor() or "unknown"


def main(gpu: int | str | None = None) -> None:
    """Answers the host's lines until its input ends."""
    # Libraries print to the standard output; the host's answers go to a copy of it that they do not know.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    plan = json.loads(sys.stdin.readline() or "null")
    if plan is None:
        return
    try:
        cores = pin(plan["threads"])
        facts = environment(plan["runtime"], cores)
    except (ImportError, ValueError) as error:
        answer({"error": str(error)})
        return
    gc.disable()
    probe = SpeedProbe(plan["probe_floor_ns"])
    energy, no_energy = energy_meter(plan, gpu) if plan["energy_seconds"] else (None, "")
    answer({"environment": facts, "probe_floor_ns": probe.own_floor, "no_energy": no_energy})
    for line in sys.stdin:
        # The host kills a late process; this is for when the host is dead itself.
        signal.alarm(int(plan["timeout_seconds"] + plan["energy_seconds"]) + 5)
        try:
            result = measure(json.loads(line)["model"], plan, probe, energy)
        except Exception as error:  # whatever a runtime raises is the model's result
            result = {"error": (type(error).__name__ + ": " + str(error).strip()).splitlines()[0]}
        signal.alarm(0)
        answer({**result, "probe_floor_ns": probe.own_floor})


if __name__ == "__main__":
    main()
