"""How many evaluations does each search method need for how much of the true front?

Problems are made of real measurements (`search_problems`), methods are ours and its peers (`search_methods`). Both
losses are normalised to 0..1 by minimum and 99th percentile of a uniform sample, the reference point is (1, 1); what
counts is the hypervolume of the distinct evaluated architectures over that of the true front (tables) or of the merged
front of three NSGA-II runs of 22,500 evaluations (surrogates). Proposals outside a table cost nothing.

Needs one core, about an hour a problem, and for some peers ``pip install pymoo botorch`` (in a virtual environment of
its own). Rows are appended to the results as runs end; a run that is there already is not repeated.

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
from search_methods import METHODS, SLOW_METHODS, run  # noqa: E402
from search_problems import PROBLEMS, load_problem, mnasnet_surrogates  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "search_efficiency.csv"
MARKS = (50, 100, 200, 300)
_SLOW_SEEDS, _SLOW_BUDGET = 3, 100


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
            ratios = np.array([getattr(row, f"ratio_{mark}") for row in own])
            ratios = ratios[~np.isnan(ratios)]
            if len(ratios):
                entry[f"mean_{mark}"], entry[f"worst_{mark}"] = round(ratios.mean(), 4), round(ratios.min(), 4)
        needed = np.array([row.evaluations_to_98 for row in own])
        entry["median_evaluations_to_98"] = None if np.isnan(needed).mean() >= 0.5 else float(np.nanmedian(needed))
        entry["proposal_ms"] = round(float(np.mean([row.proposal_ms for row in own])), 1)
        table.append(entry)
    return table


def main() -> None:
    """Runs what is missing and prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the device measurements")
    parser.add_argument("--json", type=Path, help="where the summary goes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="CSV to append to")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=300)
    args = parser.parse_args()

    done = {(row.problem, row.method, row.seed) for row in read_rows(args.results) if row.budget >= args.budget}
    done |= {(r.problem, r.method, r.seed) for r in read_rows(args.results) if r.method in SLOW_METHODS}
    for name in args.problems:
        wanted = [
            (method, seed)
            for method in args.methods
            for seed in range(min(args.seeds, _SLOW_SEEDS) if method in SLOW_METHODS else args.seeds)
            if (name, method, seed) not in done
        ]
        if not wanted:
            continue
        problem = load_problem(name, args.data)
        for method, seed in wanted:
            budget = min(args.budget, _SLOW_BUDGET) if method in SLOW_METHODS else args.budget
            bench = run(problem, method, seed, budget)
            ratios = bench.ratios()
            reached = np.flatnonzero(ratios >= 0.98)
            marks = {f"ratio_{m}": float(ratios[min(m, len(ratios)) - 1]) if m <= budget else np.nan for m in MARKS}
            needed = float(reached[0] + 1) if len(reached) else np.nan
            row = Row(name, method, seed, budget, **marks, evaluations_to_98=needed,
                      proposal_ms=1000 * bench.proposal_seconds / bench.count)  # fmt: skip
            append_row(args.results, row)
            print(json.dumps(asdict(row)), flush=True)

    rows = [r for r in read_rows(args.results) if r.problem in args.problems and r.method in args.methods]
    table = summary(rows)
    for entry in table:
        print("  ".join(f"{name}={value}" for name, value in entry.items()))
    if args.json:
        taus = {}
        if any(name.startswith("mnasnet/") for name in args.problems):
            taus = {name: round(s.kendall_tau, 4) for name, s in mnasnet_surrogates(args.data).items()}
        args.json.write_text(json.dumps({"summary": table, "surrogate_kendall_tau_cross_validated": taus}, indent=1))


if __name__ == "__main__":
    main()
