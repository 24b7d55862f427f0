"""What the search loop itself costs for each evaluation, against Ray Tune; what readers of the ledger cost.

A pool of Ray actors evaluates with an evaluator that does nothing, in the space `tiny` (17 dimensions); time runs
from the first result to the last, so that starting Ray is reported by itself. It is divided by the evaluations;
proposals that repeat a known architecture are in it. The CPU time of the driver is given beside the wall time, as it
does not depend on what else the machine does.

The peer, in the same run: Ray Tune with its OptunaSearch (NSGA-II of the same population) and a trainable that reports
the same numbers at once, as many trials at a time as there are workers.

    python experiments/benchmarks/driver_overhead.py --json out.json
    python experiments/benchmarks/driver_overhead.py --quick --parts readers
"""

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from csv_file import write_csv
from ledger_readers import GOAL as READERS_GOAL
from ledger_readers import readers_of_a_search, readers_of_commits, slowdown

from nas.config import RayConfig, SearchConfig
from nas.evaluators.base import Evaluator
from nas.evaluators.costs import AnalyticAndPredictedCosts
from nas.objectives import Objective
from nas.progress import Progress
from nas.search.executors.base import Executor
from nas.search.executors.ray_actors import RayExecutor
from nas.search.executors.ray_session import connect
from nas.search.executors.serial import SerialExecutor
from nas.search.ledger import Ledger
from nas.search.loop import SearchOutcome, run_search
from nas.search.problem import SearchProblem
from nas.search.samplers.base import distributions
from search_spaces.architecture import Architecture, Choice
from search_spaces.cost import network_cost
from search_spaces.space import SearchSpace, load_space

GOAL_MS = 30.0
GOAL_TIMES = 20.0
RESULTS = Path(__file__).parent / "results"


class NoEvaluation(Evaluator):
    """Returns at once; more of everything is better, with some noise, so that fronts are like those of a search."""

    def setup(self) -> None:
        """Needs nothing."""

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        """Returns a value between 0 and 1 that depends on the architecture."""
        capacity = sum(float(value) for _, value in architecture.values if not isinstance(value, str))
        return {"accuracy": 0.95 * (1 - math.exp(-capacity / 50)) + 0.05 * int(architecture.key[-6:], 16) / 16**6}


def search(
    space: SearchSpace,
    sampler: str,
    executor: Executor,
    ledger: Ledger,
    trials: int,
    listener: Callable[[Progress], None],
) -> SearchOutcome:
    """Runs a search whose evaluations take no time."""
    objectives = (Objective.parse("accuracy"), Objective.parse("macs"))
    return run_search(
        SearchProblem(space, objectives),
        evaluator=NoEvaluation(),
        costs=AnalyticAndPredictedCosts(space, objectives, precisions={}, predictors={}),
        executor=executor,
        ledger=ledger,
        config=SearchConfig.model_validate({"sampler": sampler, "budget": trials}),
        seed=0,
        listener=listener,
    )


def measure(space_name: str, sampler: str, executor: str, trials: int, workers: int) -> dict[str, object]:
    """Returns one row: what the loop cost in one search."""
    space = load_space(space_name)
    times_s: list[float] = []
    cpu_s: list[float] = []

    def note(progress: Progress) -> None:
        if progress.done:
            times_s.append(time.perf_counter())
            cpu_s.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.db") as ledger:
        begun_s = time.perf_counter()
        outcome = search(
            space, sampler, RayExecutor(RayConfig(workers=workers)) if executor == "ray" else SerialExecutor(),
            ledger, trials, note,
        )  # fmt: skip
    gaps = len(times_s) - 1
    tail = min(500, gaps)
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
        "overhead_ms_per_trial_last_500": round((times_s[-1] - times_s[-1 - tail]) / tail * 1e3, 2),
        "driver_cpu_ms_per_trial": round((cpu_s[-1] - cpu_s[0]) / gaps * 1e3, 2),
        "load_average_1_min": round(os.getloadavg()[0], 1),
    }


def measure_tune(space_name: str, trials: int, workers: int) -> dict[str, object]:
    """Returns a row like `measure`'s: what Ray Tune with OptunaSearch cost."""
    import optuna
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    space = load_space(space_name)
    ended_s: list[float] = []
    cpu_s: list[float] = []

    def evaluate(config: dict[str, Choice]) -> None:
        architecture = space.architecture(config)
        macs = float(network_cost(space.layers(architecture)).macs)
        tune.report({**NoEvaluation().evaluate(architecture), "macs": macs})

    class Notes(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: object, trial: object, **info: object) -> None:
            ended_s.append(time.perf_counter())
            cpu_s.append(time.process_time())

    search = OptunaSearch(
        space=dict(distributions(space)),
        metric=["accuracy", "macs"],
        mode=["max", "min"],
        sampler=optuna.samplers.NSGAIISampler(population_size=SearchConfig().population, seed=0),
    )
    disconnect = connect(RayConfig(workers=workers))
    try:
        with tempfile.TemporaryDirectory() as folder:
            begun_s = time.perf_counter()
            tune.Tuner(
                tune.with_resources(evaluate, {"cpu": 1}),
                tune_config=tune.TuneConfig(
                    search_alg=ConcurrencyLimiter(search, max_concurrent=workers), num_samples=trials
                ),
                run_config=tune.RunConfig(storage_path=folder, callbacks=[Notes()], verbose=0),
            ).fit()
    finally:
        disconnect()
    gaps = len(ended_s) - 1
    return {
        "space": space_name,
        "dimensions": len(space.dimensions),
        "sampler": "nsga2",
        "executor": "ray tune + OptunaSearch",
        "workers": workers,
        "evaluations": len(ended_s),
        "proposals": len(ended_s),
        "start_s": round(ended_s[0] - begun_s, 2),
        "overhead_ms_per_trial": round((ended_s[-1] - ended_s[0]) / gaps * 1e3, 2),
        "driver_cpu_ms_per_trial": round((cpu_s[-1] - cpu_s[0]) / gaps * 1e3, 2),
        "load_average_1_min": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measures the parts that are asked for and writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=["loop", "tune", "readers"], choices=["loop", "tune", "readers"])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--tune-trials", type=int, default=100)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--samplers", nargs="+", default=["nsga2"], help="NAME or NAME:TRIALS")
    parser.add_argument("--executors", nargs="+", default=["ray"], choices=["ray", "serial"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    options = parser.parse_args()
    share = 10 if options.quick else 1

    rows: list[dict[str, object]] = []
    reach: dict[str, dict[str, object]] = {}
    if "loop" in options.parts:
        for executor in options.executors:
            for sampler in options.samplers:
                name, _, trials = sampler.partition(":")
                count = int(trials or options.trials) // share
                rows.append(measure(options.space, name, executor, count, options.workers))
                show(rows[-1])
    if "tune" in options.parts:
        rows.append(measure_tune(options.space, options.tune_trials // share, options.workers))
        show(rows[-1])
    for row in rows:
        if row["executor"] == "ray":
            name = f"driver_ms_per_trial_{row['sampler']}_at_{row['evaluations']}_trials"
            reach[name] = reached(row["overhead_ms_per_trial_last_500"], GOAL_MS, below=True)
    ours = [row for row in rows if row["executor"] == "ray" and row["sampler"] == "nsga2"]
    if "tune" in options.parts and ours:
        times = float(str(rows[-1]["overhead_ms_per_trial"])) / float(str(ours[0]["overhead_ms_per_trial"]))
        reach["times_less_than_ray_tune_with_optuna_search"] = reached(round(times, 1), GOAL_TIMES, below=False)
    readers: list[dict[str, object]] = []
    if "readers" in options.parts:
        count, commits = options.readers // share, 150 // share
        readers = readers_of_commits(count, blocks=8, commits=commits)

        def serial(ledger: Ledger, trials: int, listener: Callable[[Progress], None]) -> None:
            search(load_space(options.space), "nsga2", SerialExecutor(), ledger, trials, listener)

        readers += readers_of_a_search(count, blocks=8, commits=commits, search=serial)
        for writer in ("search", "commits"):
            own = [row for row in readers if row["writer"] == writer]
            slower, busier = round(slowdown(own), 3), round(slowdown(own, "write_cpu_ms_mean"), 3)
            polls = statistics.fmean(float(str(row["polls_per_s"])) for row in own if row["readers"])
            print(f"{writer}: {count} readers, {polls:.0f} polls a second: {slower:+.1%}, CPU {busier:+.1%}")
            reach[f"slowdown_of_{writer}_by_{count}_readers"] = reached(slower, READERS_GOAL, below=True)

    options.results.mkdir(parents=True, exist_ok=True)
    for name, table in (("driver_overhead_cpu.csv", rows), ("ledger_readers_cpu.csv", readers)):
        if table:
            write_csv(options.results / name, table)
    if options.json:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
        figures = {"machine": machine, "rows": rows, "readers": readers}
        options.json.write_text(json.dumps({"figures": figures, "reach": reach}, indent=2))
    for name, result in reach.items():
        print(f"{name}: {result['value']}, goal {result['goal']}: {'holds' if result['holds'] else 'MISSED'}")


def show(row: dict[str, object]) -> None:
    """Prints the gist of a row."""
    print(
        f"{row['executor']:8s}{row['sampler']:7s} {row['overhead_ms_per_trial']:7.2f} ms per trial, "
        f"last 500: {row.get('overhead_ms_per_trial_last_500', '-')} ms, "
        f"driver's CPU: {row['driver_cpu_ms_per_trial']:6.2f} ms, "
        f"{row['proposals']} proposals for {row['evaluations']} evaluations, start {row['start_s']} s",
        flush=True,
    )


def reached(value: object, goal: float, *, below: bool) -> dict[str, object]:
    """Returns an entry of the JSON's ``reach``."""
    number = float(str(value))
    return {"value": number, "goal": goal, "holds": number < goal if below else number >= goal}


if __name__ == "__main__":
    main()
