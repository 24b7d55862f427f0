"""How many evaluations does each search method need for how much of the true front?

Problems are made of real measurements (`search_problems`), methods are ours and its peers (`search_methods`). Both
losses are normalised to 0..1 by minimum and 99th percentile of a uniform sample, the reference point is (1, 1); what
counts is the hypervolume of the distinct evaluated architectures over that of the true front (tables) or of the merged
front of three NSGA-II runs of 22,500 evaluations (surrogates). Proposals outside a table cost nothing.

Needs one core, about an hour a problem, and for some peers the extra ``peers``. Rows are appended to the results as
runs end; a run that is there already is not repeated.

    python experiments/benchmarks/search_efficiency.py --data ../shared/data/device_latency --json out.json
"""

import argparse
import csv
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # before numpy: one core a run, so that times compare

import numpy as np  # noqa: E402
from mnasnet_surrogates import mnasnet_surrogates  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from search_methods import METHODS, SLOW_METHODS, run  # noqa: E402
from search_problems import PROBLEMS, load_problem  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "search_efficiency.csv"
MARKS = (50, 100, 200, 300)
_EXTENT = {"": (10, 300), "variant": (5, 200), "slow": (3, 120)}
"""Seeds and evaluations of the methods, of our variants and of slow peers."""


@dataclass(frozen=True)
class Row:
    """One run: a method on a problem with a seed.

    Attributes:
        budget: of evaluations.
        ratio_50: hypervolume ratio after 50 evaluations; NaN beyond the budget; likewise the others.
        evaluations_to_98: evaluations to a ratio of .98; NaN where it was not reached.
        proposal_ms: CPU time for one evaluation's proposals, mean.
    """

    problem: str
    method: str
    seed: int
    budget: int
    ratio_50: float
    ratio_100: float
    ratio_200: float
    ratio_300: float
    evaluations_to_98: float
    proposal_ms: float


def read_rows(path: Path) -> list[Row]:
    """Returns the runs of a results file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {field.name: field.type for field in fields(Row)}
    return [Row(**{name: kinds[name](text) for name, text in row.items()}) for row in rows]  # type: ignore[operator]


def append_row(path: Path, row: Row) -> None:
    """Adds a run to a results file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in asdict(row).items()})


def summary(rows: list[Row]) -> list[dict[str, object]]:
    """Returns mean and worst ratios over seeds, for every problem and method."""
    table = []
    for problem, method in sorted({(row.problem, row.method) for row in rows}):
        own = [row for row in rows if (row.problem, row.method) == (problem, method)]
        entry: dict[str, object] = {"problem": problem, "method": method, "seeds": len(own)}
        for mark in MARKS:
            if len(ratios := _ratios(rows, problem, method, mark)):
                entry[f"mean_{mark}"], entry[f"worst_{mark}"] = round(ratios.mean(), 4), round(ratios.min(), 4)
        needed = np.array([row.evaluations_to_98 for row in own])
        entry["median_evaluations_to_98"] = None if np.isnan(needed).mean() >= 0.5 else float(np.nanmedian(needed))
        entry["proposal_ms"] = round(float(np.mean([row.proposal_ms for row in own])), 1)
        table.append(entry)
    return table


OURS = "hypervolume"
_LOSSES = {"batch8": ((50, 100, 200), 0.005), "cost20": ((100,), 0.01)}
"""Of each variant of ours: after how many evaluations it may lose how much of the ratio."""
_GOALS = {"nasbench201": {50: (0.985, 0.96), 100: (0.997, 0.99)},
          "mnasnet": {50: (0.97, 0.955), 100: (0.987, 0.98), 200: (0.995, 0.99)}}  # fmt: skip
"""Ratios to be reached by the mean over seeds, and by the worst seed."""


def reach(rows: list[Row]) -> dict[str, dict[str, object]]:
    """Returns which goals are met, each by its worst problem; goals of what has not been run are left out."""
    found: dict[str, dict[str, object]] = {}

    def note(name: str, value: float, goal: float, *, below: bool = False) -> None:
        worse = max if below else min
        value = worse(value, float(str(found[name]["value"]))) if name in found else value
        found[name] = {"value": round(value, 4), "goal": goal, "holds": value <= goal if below else value >= goal}

    for problem in sorted({row.problem for row in rows}):
        methods = {row.method for row in rows if row.problem == problem}
        if OURS not in methods:
            continue
        space = problem.partition("/")[0]
        for mark, (mean, worst) in _GOALS[space].items():
            ratios = _ratios(rows, problem, OURS, mark)
            if len(ratios):
                note(f"{space}_mean_at_{mark}", float(ratios.mean()), mean)
                note(f"{space}_worst_at_{mark}", float(ratios.min()), worst)
        peers = sorted(method for method in methods if not method.startswith(OURS))
        for mark in (50, 100, 200):
            for peer in peers:
                other = _ratios(rows, problem, peer, mark)
                if len(other):
                    ahead = float(_ratios(rows, problem, OURS, mark).mean() - other.mean())
                    note(f"ahead_of_every_peer_at_{mark}", ahead, 0.0)
        if peers:
            best = min(_evaluations_to_98(rows, problem, peer) for peer in peers)
            share = _evaluations_to_98(rows, problem, OURS) / best
            note("evaluations_to_98_over_best_peers", share, 0.5, below=True)
        for variant, (marks, most) in _LOSSES.items():
            for mark in marks:
                name = f"{OURS}_{variant}"
                if len(ratios := _ratios(rows, problem, name, mark)):
                    # Of the same seeds, where the variant was not run with all of them.
                    seeds = {row.seed for row in rows if (row.problem, row.method) == (problem, name)}
                    same = [row for row in rows if row.seed in seeds]
                    loss = float(_ratios(same, problem, OURS, mark).mean() - ratios.mean())
                    note(f"{variant}_loses_at_{mark}", loss, most, below=True)
    return found


def _ratios(rows: list[Row], problem: str, method: str, mark: int) -> NDArray[np.float64]:
    """Returns the ratios after ``mark`` evaluations, of the seeds that were run that long."""
    own = [getattr(row, f"ratio_{mark}") for row in rows if (row.problem, row.method) == (problem, method)]
    ratios = np.array(own, dtype=np.float64)
    return ratios[~np.isnan(ratios)]


def _evaluations_to_98(rows: list[Row], problem: str, method: str) -> float:
    """Returns the median over seeds; a run that never got there counts with its budget, the least it can be."""
    own = [row for row in rows if (row.problem, row.method) == (problem, method)]
    return float(np.median([row.budget if np.isnan(row.evaluations_to_98) else row.evaluations_to_98 for row in own]))


def extent(method: str, seeds: int, budget: int) -> tuple[int, int]:
    """Returns how many seeds and evaluations a method is run with, of those asked for."""
    kind = "slow" if method in SLOW_METHODS else "variant" if method.startswith(f"{OURS}_") else ""
    return min(seeds, _EXTENT[kind][0]), min(budget, _EXTENT[kind][1])


def main() -> None:
    """Runs what is missing and prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the device measurements")
    parser.add_argument("--json", type=Path, help="where the summary goes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="CSV to append to")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--seeds", type=int, default=10, help="at most 10; 5 of our variants, 3 of slow peers")
    parser.add_argument("--budget", type=int, default=300, help="at most 300; 200 of our variants, 120 of slow peers")
    args = parser.parse_args()

    longest = {(row.problem, row.method, row.seed): row.budget for row in read_rows(args.results)}
    for name in args.problems:
        wanted = [
            (method, seed, budget)
            for method in args.methods
            for seeds, budget in [extent(method, args.seeds, args.budget)]
            for seed in range(seeds)
            if longest.get((name, method, seed), 0) < (1 if method in SLOW_METHODS else budget)
        ]
        if not wanted:
            continue
        problem = load_problem(name, args.data)
        for method, seed, budget in wanted:
            bench = run(problem, method, seed, budget)
            ratios = bench.ratios()
            arrivals = np.flatnonzero(ratios >= 0.98)
            marks = {f"ratio_{m}": float(ratios[min(m, len(ratios)) - 1]) if m <= budget else np.nan for m in MARKS}
            needed = float(arrivals[0] + 1) if len(arrivals) else np.nan
            row = Row(name, method, seed, budget, **marks, evaluations_to_98=needed,
                      proposal_ms=1000 * bench.proposal_seconds / bench.count)  # fmt: skip
            append_row(args.results, row)
            print(json.dumps(asdict(row)), flush=True)

    rows = [r for r in read_rows(args.results) if r.problem in args.problems and r.method in args.methods]
    table = summary(rows)
    for entry in table:
        print("  ".join(f"{name}={value}" for name, value in entry.items()))
    reached = reach(rows)
    for name, result in reached.items():
        print(f"{name}: {result['value']}, goal {result['goal']}: {'holds' if result['holds'] else 'MISSED'}")
    if args.json:
        taus: dict[str, float] = {}
        if any(name.startswith("mnasnet/") for name in args.problems):
            taus = {name: round(s.kendall_tau, 4) for name, s in mnasnet_surrogates(args.data).items()}
        figures = {"summary": table, "surrogate_kendall_tau_cross_validated": taus}
        args.json.write_text(json.dumps({"figures": figures, "reach": reached}, indent=1))


if __name__ == "__main__":
    main()
