"""How much time does the hypervolume sampler take for a proposal at 1,000 finished trials?

Each space is searched for accuracy against MACs, and against a latency that a predictor of each kind tells (fitted to
100 networks with made-up latencies), with what the product's own search tells the sampler: costs, features and
canonical forms of architectures. The study holds uniform architectures with an accuracy that rises with the MACs
and differs from one to another; then proposals are asked for and told, one at a time, in one process with one thread.
CPU time is given beside the wall time, as other work on the machine hardly touches it. Hyperparameters are fitted anew
when the trials have grown by a tenth: one proposal in a hundred, whose time is given by itself and shared out.

    python experiments/benchmarks/proposal_cost.py --json out.json
"""

import argparse
import itertools
import json
import math
import os
import statistics
import time
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # before numpy

import numpy as np  # noqa: E402
import optuna  # noqa: E402
from csv_file import write_csv  # noqa: E402
from optuna.distributions import BaseDistribution  # noqa: E402
from optuna.trial import create_trial  # noqa: E402
from prediction_speed import distinct, made_up_rows  # noqa: E402

from latency_predictors.kinds import list_kinds, predictor_kind  # noqa: E402
from nas.config import SearchConfig  # noqa: E402
from nas.evaluators.costs import AnalyticAndPredictedCosts  # noqa: E402
from nas.objectives import Objective  # noqa: E402
from nas.search.problem import SearchProblem  # noqa: E402
from nas.search.samplers.architecture_knowledge import hypervolume_sampler  # noqa: E402
from nas.search.samplers.base import distributions  # noqa: E402
from search_spaces.architecture import Architecture  # noqa: E402
from search_spaces.cost import network_cost  # noqa: E402
from search_spaces.space import SearchSpace, load_space  # noqa: E402

GOAL_MS = 200.0
RESULTS = Path(__file__).parent / "results" / "proposal_cost_cpu.csv"


def cost_model(space: SearchSpace, cost: str) -> tuple[Objective, AnalyticAndPredictedCosts]:
    """Returns the cheap objective and what tells it: ``macs``, or a latency by a kind of predictor."""
    if cost == "macs":
        macs = Objective.parse("macs")
        return macs, AnalyticAndPredictedCosts(space, (macs,), precisions={}, predictors={})
    rng = np.random.default_rng(1)
    columns, features, values = made_up_rows(distinct(space, 100, rng), space, rng)
    predictor = predictor_kind(cost)("latency_ms", "cpu", columns=columns).fit_features(features, values)
    latency = Objective.parse("latency_ms@cpu")
    predictors = {str(latency.predictor): predictor}
    return latency, AnalyticAndPredictedCosts(space, (latency,), precisions={"cpu": "fp32"}, predictors=predictors)


def accuracy(space: SearchSpace, architecture: Architecture) -> float:
    """Returns one that rises with the MACs and differs from one architecture to another."""
    macs = network_cost(space.layers(architecture)).macs
    noise = int(architecture.key[-6:], 16) / 16**6
    return 0.6 + 0.3 * (1 - math.exp(-math.log10(macs) / 4)) + 0.02 * noise


def measure(name: str, cost: str, trials: int, proposals: int) -> dict[str, object]:
    """Returns a row: what a proposal costs in a space."""
    space, rng = load_space(name), np.random.default_rng(0)
    objective, costs = cost_model(space, cost)
    objectives = (Objective.parse("accuracy"), objective)
    make = hypervolume_sampler(SearchProblem(space, objectives), costs, SearchConfig())

    def values_of(architecture: Architecture) -> list[float]:
        return [accuracy(space, architecture), costs.costs_of([architecture])[0][objective.name].value]

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make(0))
    choices = distributions(space)
    for architecture in (space.sample(rng) for _ in range(trials)):
        params = dict(architecture.values)
        own: dict[str, BaseDistribution] = {p: choices[p] for p in params}
        study.add_trial(create_trial(params=params, distributions=own, values=values_of(architecture)))
    wall_ms, cpu_ms = [], []
    for _ in range(proposals):
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        trial = study.ask(dict(choices))
        wall_ms.append((time.perf_counter() - begun_s) * 1e3)
        cpu_ms.append((time.process_time() - begun_cpu_s) * 1e3)
        study.tell(trial, values_of(space.architecture(trial.params)))
    # The first one fits hyperparameters and describes all trials; a search does the latter once for each trial.
    first, later = cpu_ms[0], cpu_ms[1:]
    return {
        "space": name,
        "cost": cost,
        "dimensions": len(space.dimensions),
        "finished_trials": trials,
        "proposals": proposals,
        "cpu_ms_mean": round(statistics.fmean(later), 1),
        "cpu_ms_worst": round(max(later), 1),
        "wall_ms_median": round(statistics.median(wall_ms[1:]), 1),
        "first_cpu_ms": round(first, 1),
        "load_average_1_min": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measures every space and writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", nargs="+", default=["tiny", "efficientnet", "mobilenet_v3"])
    parser.add_argument("--costs", nargs="+", default=["macs", *list_kinds()])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--proposals", type=int, default=21)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, reach = [], {}
    for name, cost in itertools.product(options.spaces, options.costs):
        rows.append(row := measure(name, cost, options.trials, options.proposals))
        print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
        # A fit of hyperparameters comes once in a tenth of the trials.
        shared = float(str(row["cpu_ms_mean"])) + float(str(row["first_cpu_ms"])) / (0.1 * options.trials)
        key = f"cpu_ms_per_proposal_{name}_{cost}_at_{options.trials}_trials"
        reach[key] = {"value": round(shared, 1), "goal": GOAL_MS, "holds": shared < GOAL_MS}
    write_csv(options.results, rows)
    if options.json:
        options.json.write_text(json.dumps({"figures": {"rows": rows}, "reach": reach}, indent=1))
    for key, result in reach.items():
        print(f"{key}: {result['value']}, goal {result['goal']}: {'holds' if result['holds'] else 'MISSED'}")


if __name__ == "__main__":
    main()
