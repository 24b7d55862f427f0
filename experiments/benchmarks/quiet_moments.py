"""What it is worth to time inferences only while the core runs undisturbed (`latency_predictors/devices/runner.py`).

The reference network in both formats and precisions is timed in launches of a fresh process, once counting every
inference and once only those between two fast speed probes; first with the machine as it is, then beside a neighbour
that computes on every other core half of the time. For each: the centre over launches and the half-width of its 95 %
interval.

    python experiments/benchmarks/quiet_moments.py --json out.json
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from csv_file import write_csv

from latency_predictors.devices import runner
from latency_predictors.devices.runner_device import REFERENCES
from latency_predictors.statistics import interval

MODELS = ("fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite")
RESULTS = Path(__file__).parent / "results"
# In slices of milliseconds, as a busy neighbour has them.
NEIGHBOUR = """
import random, time
while True:
    end = time.monotonic() + random.uniform(0.002, 0.02)
    while time.monotonic() < end: sum(range(1000))
    time.sleep(random.uniform(0.002, 0.02))
"""


class Indifferent(runner.SpeedProbe):
    """A speed probe to which every moment is quiet."""

    def __call__(self) -> int:
        """Returns the same each time."""
        return 1


def launch(method: str, floor_ns: int | None) -> None:
    """Prints the timing of each model in this process and the fastest speed probe."""
    runner.pin(1)
    probe = Indifferent(1) if method == "every" else runner.SpeedProbe(floor_ns)
    timings = {}
    for model in np.random.default_rng().permutation(MODELS):
        load = runner.load_litert if model.endswith(".tflite") else runner.load_onnxruntime
        invoke = load(str(REFERENCES / model), 1)
        runner.warm_up(invoke, 50_000_000)
        timing = runner.time_quietly(invoke, probe, window_ns=20_000_000, min_inferences=15, patience=25)
        timings[str(model)] = timing
    print(json.dumps({"timings": timings, "floor_ns": probe.own_floor}))


def launches(count: int) -> dict[tuple[str, str], list[float]]:
    """Returns block medians in milliseconds by model and method; the methods take turns."""
    timings: list[tuple[str, str, float | None, int | None]] = []
    floor_ns: int | None = None
    for number in range(2 * count):
        method = ("every", "quiet")[number % 2]
        command = [sys.executable, __file__, "--child", method, *(["--floor-ns", str(floor_ns)] if floor_ns else [])]
        answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        if method == "quiet":
            floor_ns = min(floor_ns or answer["floor_ns"], answer["floor_ns"])
        timings += [(model, method, t["median_ms"], t["probe_ns"]) for model, t in answer["timings"].items()]
    medians: dict[tuple[str, str], list[float]] = {}
    for model, method, median_ms, probe_ns in timings:
        # As the protocol does: a launch that never saw the core at its best does not count.
        if median_ms and probe_ns and floor_ns and (method == "every" or probe_ns <= runner.QUIET * floor_ns):
            medians.setdefault((model, method), []).append(median_ms)
    return medians


@contextmanager
def neighbours(wanted: bool) -> Iterator[None]:
    """Keeps every core but the last busy, half of the time."""
    cores = sorted(os.sched_getaffinity(0))[:-1] if wanted else []
    processes = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in cores]
    try:
        for process, core in zip(processes, cores, strict=True):
            os.sched_setaffinity(process.pid, {core})
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    """Times both methods in both situations and writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--launches", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=("every", "quiet"), help=argparse.SUPPRESS)
    parser.add_argument("--floor-ns", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        launch(options.child, options.floor_ns)
        return

    rows: list[dict[str, object]] = []
    for busy in (False, True):
        with neighbours(busy):
            medians = launches(options.launches)
        for (model, method), values in sorted(medians.items()):
            found = interval(values) if len(values) > 1 else None
            rows.append(
                {
                    "neighbour": busy,
                    "model": model,
                    "inferences": method,
                    "launches": len(values),
                    "latency_ms": round(found.centre, 5) if found else None,
                    "half_width": round(found.half_width, 4) if found else None,
                }
            )
            print(rows[-1], flush=True)
    write_csv(RESULTS / "quiet_moments.csv", rows)
    if options.json:
        worst = {
            method: max(
                (float(str(row["half_width"])) for row in rows if row["inferences"] == method and row["half_width"]),
                default=None,
            )
            for method in ("every", "quiet")
        }
        reach = {
            "widest half-width, quiet inferences": {
                "value": worst["quiet"],
                "goal": 0.05,
                "holds": worst["quiet"] is not None and worst["quiet"] <= 0.05,
            }
        }
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
        options.json.write_text(json.dumps({"figures": {"machine": machine, "rows": rows}, "reach": reach}, indent=2))


if __name__ == "__main__":
    main()
