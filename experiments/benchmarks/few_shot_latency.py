"""How well is a new device predicted from 10 or 20 of its measurements?

Leave one device family out: the other families of a file are the source bank, 10 or 20 networks of the left-out device
are measured, and a quarter of the networks (never among the source or target samples) tests.

    python experiments/benchmarks/few_shot_latency.py --data ../shared/data/device_latency --json out.json

About 25 minutes on one core for 10 seeds. Also writes one CSV row per space, device, method and sample count.
Methods: ``chosen`` and ``random`` are the product's transfer with networks it chose or drawn at random;
``basis_ridge`` is the plain baseline (source predictions, principal components, ridge) on the random ones; ``all_rows``
is a predictor of the device's own rows, all of the training part: the ceiling that its noise sets.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from csv_file import write_csv
from latency_tables import LatencyTable, load_table
from numpy.typing import NDArray
from scipy.stats import spearmanr

from latency_predictors.base import Prediction
from latency_predictors.selection import choose_networks
from latency_predictors.source_bank import SourceBank
from latency_predictors.transfer import TransferPredictor

Floats = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results" / "few_shot_latency.csv"
SAMPLES = (10, 20)
TEST_SHARE = 0.25
COMPONENTS, PENALTY = 6, 0.01  # of the baseline, its best on average over the files


@dataclass(frozen=True)
class Task:
    """A file, the devices that are new in turn, and what is to be reached there on average.

    Attributes:
        file: Parquet file without suffix.
        kinds: of rows used.
        targets: new devices; None for all.
        goals: (samples, figure) -> value to reach; figures are fractions.
    """

    file: str
    kinds: tuple[str, ...] | None
    targets: tuple[str, ...] | None
    goals: dict[tuple[int, str], float]


TASKS = {
    "nasbench201": Task(
        "nasbench201_help",
        None,
        None,
        {(10, "spearman"): 0.968, (20, "spearman"): 0.975, (10, "within_10"): 0.84, (20, "within_10"): 0.86},
    ),
    "fbnet": Task(
        "fbnet_help",
        ("measured",),
        None,
        {(10, "spearman"): 0.935, (20, "spearman"): 0.945, (10, "within_10"): 0.94, (20, "within_10"): 0.95},
    ),
    "ofa_mbv3": Task(
        "ofa_mbv3_help",
        None,
        None,
        {
            (10, "spearman"): 0.89,
            (20, "spearman"): 0.907,
            (10, "within_10"): 0.83,
            (20, "within_10"): 0.86,
            (20, "mape"): 0.052,
        },
    ),
    "mnasnet_anb": Task("mnasnet_anb", None, ("xilinx_zcu102",), {(20, "spearman"): 0.92, (20, "within_10"): 0.50}),
}


def figures(predicted: Floats, measured: Floats) -> dict[str, float]:
    """Returns the benchmark's figures, as fractions."""
    errors = np.abs(predicted / measured - 1)
    return {
        "spearman": float(spearmanr(predicted, measured).statistic),
        "within_10": float((errors <= 0.1).mean()),
        "mape": float(errors.mean()),
    }


def interval_figures(prediction: Prediction, measured: Floats) -> dict[str, float]:
    """Returns the figures of a prediction with intervals."""
    inside = (prediction.lower <= measured) & (measured <= prediction.upper)
    return figures(prediction.mean, measured) | {"coverage": float(inside.mean())}


def basis_ridge(bank: SourceBank, train: Floats, sample: Floats, values: Floats, test: Floats) -> Floats:
    """Returns what the plain baseline predicts for test networks: ridge on principal components of source devices."""
    known = bank.predict_logs(train)
    centre, spread = known.mean(axis=0), known.std(axis=0)
    _, singular, directions = np.linalg.svd((known - centre) / spread, full_matrices=False)
    scale = directions[:COMPONENTS].T / (singular[0] / np.sqrt(len(train)))
    inputs, logs = (bank.predict_logs(sample) - centre) / spread @ scale, np.log(values)
    middle = inputs.mean(axis=0)
    gram = (inputs - middle).T @ (inputs - middle) + PENALTY * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, (inputs - middle).T @ (logs - logs.mean()))
    asked = (bank.predict_logs(test) - centre) / spread @ scale
    predicted: Floats = np.exp((asked - middle) @ weights + logs.mean())
    return predicted


def split(table: LatencyTable, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns shuffled training rows and test rows; networks of one group stay together."""
    groups = rng.permutation(np.unique(table.groups))
    test = np.isin(table.groups, groups[: round(TEST_SHARE * len(groups))])
    return rng.permutation(np.flatnonzero(~test)), np.flatnonzero(test)


def seed_rows(name: str, task: Task, table: LatencyTable, seed: int) -> Iterator[dict[str, object]]:
    """Yields the figures of one seed, a row per device, method and sample count."""
    rng = np.random.default_rng(seed)
    train, test = split(table, rng)
    whole = SourceBank.fit(table.features[train], table.values[train], table.devices, table.families)
    ceilings = np.exp(whole.predict_logs(table.features[test]))
    for index, device in enumerate(table.devices):
        if task.targets and device not in task.targets:
            continue
        bank = whole.without(table.families[index])
        measured = table.values[test, index]
        row = {"space": name, "device": device, "seed": seed}
        yield row | {"method": "all_rows", "samples": len(train), **figures(ceilings[:, index], measured)}
        drawn = rng.permutation(train)
        for samples in SAMPLES:
            chosen = drawn[choose_networks(bank, table.features[drawn], samples, rng)]
            for method, rows in (("chosen", chosen), ("random", drawn[:samples])):
                predictor = TransferPredictor("latency_ms", device, seed=seed, columns=table.columns, bank=bank)
                predictor.fit_features(table.features[rows], table.values[rows, index])
                prediction = predictor.predict_features(table.features[test])
                yield row | {"method": method, "samples": samples, **interval_figures(prediction, measured)}
            rows = drawn[:samples]
            baseline = basis_ridge(
                bank, table.features[train], table.features[rows], table.values[rows, index], table.features[test]
            )
            yield row | {"method": "basis_ridge", "samples": samples, **figures(baseline, measured)}


def summarise(rows: list[dict[str, object]], keys: tuple[str, ...], over: str) -> list[dict[str, object]]:
    """Returns one row per combination of keys: the mean of each figure, and the worst of the means per ``over``."""
    found: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    summaries = []
    for values, members in found.items():
        summary = dict(zip(keys, values, strict=True))
        for figure in ("spearman", "within_10", "mape", "coverage"):
            if figure not in members[0]:
                continue
            parts: dict[object, list[float]] = {}
            for member in members:
                parts.setdefault(member[over], []).append(float(str(member[figure])))
            means = [float(np.mean(part)) for part in parts.values()]
            worst = max(means) if figure == "mape" else min(means)
            summary |= {f"{figure}_mean": round(float(np.mean(means)), 4), f"{figure}_worst": round(worst, 4)}
        summaries.append(summary)
    return summaries


def verdicts(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Returns, for each goal, what was reached by chosen and by random samples."""
    overall = {
        (row["space"], row["method"], row["samples"]): row
        for row in summarise(rows, ("space", "method", "samples"), "seed")
    }
    found = []
    for name, task in TASKS.items():
        ceiling = next((row for key, row in overall.items() if key[:2] == (name, "all_rows")), None)
        for (samples, figure), goal in task.goals.items():
            if ceiling is None:
                continue
            reached = {m: overall[name, m, samples][f"{figure}_mean"] for m in ("chosen", "random", "basis_ridge")}
            better = float(str(reached["chosen"])) - goal
            found.append(
                {"space": name, "samples": samples, "figure": figure, "goal": goal, **reached}
                | {"all_rows": ceiling[f"{figure}_mean"], "reached": (better <= 0) if figure == "mape" else better >= 0}
            )
    return found


def main() -> None:
    """Runs the tasks whose files are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of Parquet files in the shared schema")
    parser.add_argument("--json", type=Path, help="file for goals and figures")
    parser.add_argument("--csv", type=Path, default=RESULTS, help="file for figures per device")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name in options.tasks:
        task = TASKS[name]
        path = options.data / f"{task.file}.parquet"
        if not path.is_file():
            print(f"{name}: no {path}, left out")
            continue
        table = load_table(path, kinds=task.kinds)
        for seed in range(options.seeds):
            print(f"{name}: seed {seed}", flush=True)
            rows.extend(seed_rows(name, task, table, seed))
        for verdict in verdicts([row for row in rows if row["space"] == name]):
            print(*(f"{key}={value}" for key, value in verdict.items()), flush=True)
    devices = summarise(rows, ("space", "device", "method", "samples"), "seed")
    write_csv(options.csv, devices)
    if options.json:
        overall = summarise(rows, ("space", "method", "samples"), "seed")
        options.json.write_text(json.dumps({"goals": verdicts(rows), "overall": overall, "devices": devices}, indent=1))


if __name__ == "__main__":
    main()
