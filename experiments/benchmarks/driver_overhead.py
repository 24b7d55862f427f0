"""What the search loop itself costs for each evaluation: everything but the evaluation.

A pool of Ray actors evaluates with an evaluator that does nothing, in the space `tiny` (17 dimensions); time runs
from the first result to the last, so that starting Ray is reported by itself. It is divided by the evaluations;
proposals that repeat a known architecture are in it. The CPU time of the driver is given beside the wall time, as it
does not depend on what else the machine does.

    python experiments/benchmarks/driver_overhead.py --json out.json
"""

import argparse
import csv
import json
import math
import os
import platform
import tempfile
import time
from pathlib import Path

from nas.config import RayConfig, SearchConfig
from nas.evaluators.base import Evaluator
from nas.evaluators.costs import AnalyticAndPredictedCosts
from nas.objectives import Objective
from nas.progress import Progress
from nas.search.executors.ray_actors import RayExecutor
from nas.search.executors.serial import SerialExecutor
from nas.search.ledger import Ledger
from nas.search.loop import run_search
from nas.search.problem import SearchProblem
from search_spaces.architecture import Architecture
from search_spaces.space import load_space

GOAL_MS = 30.0
RESULTS = Path(__file__).parent / "results" / "driver_overhead_cpu.csv"


class NoEvaluation(Evaluator):
    """Returns at once; more of everything is better, with some noise, so that fronts are like those of a search."""

    def setup(self) -> None:
        """Needs nothing."""

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        """Returns a value between 0 and 1 that depends on the architecture."""
        capacity = sum(float(value) for _, value in architecture.values if not isinstance(value, str))
        return {"accuracy": 0.95 * (1 - math.exp(-capacity / 50)) + 0.05 * int(architecture.key[-6:], 16) / 16**6}


def measure(space_name: str, sampler: str, executor: str, trials: int, workers: int) -> dict[str, object]:
    """Returns one row: what the loop cost in one search."""
    space = load_space(space_name)
    objectives = (Objective.parse("accuracy"), Objective.parse("macs"))
    times_s: list[float] = []
    cpu_s: list[float] = []

    def note(progress: Progress) -> None:
        if progress.done:
            times_s.append(time.perf_counter())
            cpu_s.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.db") as ledger:
        begun_s = time.perf_counter()
        outcome = run_search(
            SearchProblem(space, objectives),
            evaluator=NoEvaluation(),
            costs=AnalyticAndPredictedCosts(space, objectives, precisions={}, predictors={}),
            executor=RayExecutor(RayConfig(workers=workers)) if executor == "ray" else SerialExecutor(),
            ledger=ledger,
            config=SearchConfig(sampler=sampler, budget=trials),
            seed=0,
            listener=note,
        )
    gaps = len(times_s) - 1
    tail = min(100, gaps)
    return {
        "space": space_name,
        "dimensions": len(space.dimensions),
        "sampler": sampler,
        "executor": executor,
        "workers": workers if executor == "ray" else 1,
        "evaluations": outcome.evaluated,
        "proposals": outcome.proposals,
        "start_s": round(times_s[0] - begun_s, 2),
        "overhead_ms_per_trial": round((times_s[-1] - times_s[0]) / gaps * 1e3, 2),
        "overhead_ms_per_trial_last_100": round((times_s[-1] - times_s[-1 - tail]) / tail * 1e3, 2),
        "driver_cpu_ms_per_trial": round((cpu_s[-1] - cpu_s[0]) / gaps * 1e3, 2),
        "load_average_1_min": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measures every sampler and writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--samplers", nargs="+", default=["nsga2", "random", "tpe:300"], help="NAME or NAME:TRIALS")
    parser.add_argument("--executors", nargs="+", default=["ray", "serial"], choices=["ray", "serial"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    options = parser.parse_args()

    rows = []
    for executor in options.executors:
        for sampler in options.samplers:
            name, _, trials = sampler.partition(":")
            row = measure(options.space, name, executor, int(trials or options.trials), options.workers)
            rows.append(row)
            print(
                f"{executor:7s}{name:7s} {row['overhead_ms_per_trial']:7.2f} ms per trial, "
                f"last 100: {row['overhead_ms_per_trial_last_100']:7.2f} ms, "
                f"driver's CPU: {row['driver_cpu_ms_per_trial']:6.2f} ms, "
                f"{row['proposals']} proposals for {row['evaluations']} evaluations, start {row['start_s']} s",
                flush=True,
            )
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if options.json:
        reach = {
            f"overhead_ms_per_trial_{row['executor']}_{row['sampler']}_{row['evaluations']}_trials": {
                "value": row["overhead_ms_per_trial"],
                "goal": GOAL_MS,
                "holds": row["overhead_ms_per_trial"] < GOAL_MS,
            }
            for row in rows
            if row["executor"] == "ray"
        }
        machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
        options.json.write_text(json.dumps({"figures": {"machine": machine, "rows": rows}, "reach": reach}, indent=2))


if __name__ == "__main__":
    main()
