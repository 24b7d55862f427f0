"""What do wrong rows do to a predictor, and does an audit of a few rows find them?

On columns of real tables, a random device for every seed; what the table says is the truth.

* ``random``: 10 % of the rows learned from are scaled by 0.1 to 10. The figure is the error on other networks over that
  of the same predictor without wrong rows.
* ``audit``: 10 % of 1,000 rows are changed on purpose; 3 % are chosen and measured again (truth with 1 % of scatter),
  and the set is caught or not. Also honest sets: 1 % of scatter, with and without 1 % of rows off by 20 %.

    OMP_NUM_THREADS=1 python experiments/benchmarks/poison_audit.py --data ../shared/data/device_latency --json out.json
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from csv_file import write_csv
from latency_tables import LatencyTable, load_table
from numpy.typing import NDArray

from latency_predictors.audit import choose_rows, contradicted, judge
from latency_predictors.kinds import predictor_kind
from latency_predictors.metrics import scores

Floats = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"
FILES = {"fbnet_help": ("measured",), "ofa_mbv3_help": None, "mnasnet_anb": None}
KINDS = ("linear", "gaussian_process", "boosted_trees")
LEARNED, AUDITED, TEST = 200, 1000, 500
SCATTER = 0.01
SHARE = 0.1
GOAL_RATIO, GOAL_CAUGHT, GOAL_FALSE = 1.3, 0.95, 0.05


def _rows(rng: np.random.Generator, among: NDArray[np.int64]) -> NDArray[np.int64]:
    return rng.choice(among, min(len(among), round(SHARE * AUDITED)), replace=False)


def _one_choice(features: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns the rows that have a choice which at least a tenth of them has."""
    shares = (features == 1).mean(axis=0)
    binary = ((features == 0) | (features == 1)).all(axis=0) & (shares >= SHARE) & (shares <= 0.9)
    return np.flatnonzero(features[:, rng.choice(np.flatnonzero(binary))])


Attack = Callable[[Floats, Floats, np.random.Generator], tuple[NDArray[np.int64], float]]
ATTACKS: dict[str, Attack] = {
    "slowest tenth x 0.7": lambda f, v, rng: (np.argsort(v)[-round(SHARE * len(v)) :], 0.7),
    "fastest tenth x 1.5": lambda f, v, rng: (np.argsort(v)[: round(SHARE * len(v))], 1.5),
    "rows of one choice x 0.8": lambda f, v, rng: (_rows(rng, _one_choice(f, rng)), 0.8),
    "any rows x 0.8": lambda f, v, rng: (_rows(rng, np.arange(len(v))), 0.8),
}
HONEST: dict[str, float] = {"honest": 0.0, "honest, 1 % off by 20 %": 0.01}


def random_rows(name: str, table: LatencyTable, seeds: int) -> Iterator[dict[str, object]]:
    """Yields the error ratios of every seed and kind."""
    for seed in range(seeds):
        rng = np.random.default_rng([1, seed])
        device = int(rng.integers(len(table.devices)))
        order = rng.permutation(len(table.features))
        rows, test = order[:LEARNED], order[-TEST:]
        values = table.values[rows, device]
        wrong = values.copy()
        bad = rng.choice(LEARNED, round(SHARE * LEARNED), replace=False)
        wrong[bad] *= np.exp(rng.uniform(np.log(0.1), np.log(10), len(bad)))
        for kind in KINDS:
            errors = []
            for learned in (values, wrong):
                predictor = predictor_kind(kind)("latency_ms", "d", seed=seed, columns=table.columns)
                predictor.fit_features(table.features[rows], learned)
                prediction = predictor.predict_features(table.features[test])
                errors.append(scores(prediction, table.values[test, device]).mape)
            yield {"table": name, "case": kind, "clean_mape": errors[0], "ratio": errors[1] / errors[0]}


def audits(name: str, table: LatencyTable, seeds: int) -> Iterator[dict[str, object]]:
    """Yields whether the audit caught the set, for every seed and case."""
    for seed in range(seeds):
        rng = np.random.default_rng([2, seed])
        device = int(rng.integers(len(table.devices)))
        rows = rng.permutation(len(table.features))[:AUDITED]
        features, truth = table.features[rows], table.values[rows, device]
        for case in (*ATTACKS, *HONEST):
            stored = truth * np.exp(rng.normal(0, SCATTER, len(truth)))
            if case in ATTACKS:
                bad, factor = ATTACKS[case](features, truth, rng)
                stored[bad] *= factor
            else:
                off = rng.random(len(truth)) < HONEST[case]
                stored[off] *= 1.2
            chosen = choose_rows(features, stored, None, table.columns, rng)
            fresh = truth[chosen] * np.exp(rng.normal(0, SCATTER, len(chosen)))
            half = np.full(len(chosen), 1.96 * SCATTER)
            verdict = judge(contradicted(stored[chosen], half, fresh, half))
            yield {"table": name, "case": case, "audited": verdict.audited, "caught": not verdict.passed}


def main() -> None:
    """Runs both parts on every table that is there and writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of Parquet files in the shared schema")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--random-seeds", type=int, default=10, help="of the part with random rows, the slow one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path, default=RESULTS / "poison_audit.csv")
    options = parser.parse_args()
    summary: list[dict[str, object]] = []
    reach: dict[str, dict[str, object]] = {}

    def add(row: dict[str, object], name: str, value: float, goal: float, holds: bool) -> None:
        summary.append(row)
        reach[name] = {"value": round(value, 4), "goal": goal, "holds": holds}
        print(name, reach[name], flush=True)

    for file, kinds in FILES.items():
        path = options.data / f"{file}.parquet"
        if not path.is_file():
            print(f"no {path}, left out")
            continue
        table = load_table(path, kinds=kinds)
        found = list(audits(file, table, options.seeds))
        for case in (*ATTACKS, *HONEST):
            caught = float(np.mean([bool(row["caught"]) for row in found if row["case"] == case]))
            row = {"table": file, "part": "audit", "case": case, "seeds": options.seeds, "caught": caught}
            goal = GOAL_CAUGHT if case in ATTACKS else GOAL_FALSE
            add(row, f"{file}: {case}, caught", caught, goal, caught >= goal if case in ATTACKS else caught <= goal)
        of_kinds = list(random_rows(file, table, options.random_seeds))
        for kind in KINDS:
            ratios = [float(str(row["ratio"])) for row in of_kinds if row["case"] == kind]
            clean = [float(str(row["clean_mape"])) for row in of_kinds if row["case"] == kind]
            row = {"table": file, "part": "random", "case": kind, "seeds": len(ratios)}
            row |= {"clean_mape": round(float(np.mean(clean)), 4), "ratio": round(float(np.mean(ratios)), 3)}
            row |= {"worst_ratio": round(max(ratios), 3)}
            mean = float(np.mean(ratios))
            add(row, f"{file}: {kind}, error ratio", mean, GOAL_RATIO, mean <= GOAL_RATIO)
    write_csv(options.csv, summary)
    if options.json:
        options.json.write_text(json.dumps({"figures": {"rows": summary}, "reach": reach}, indent=1))


if __name__ == "__main__":
    main()
