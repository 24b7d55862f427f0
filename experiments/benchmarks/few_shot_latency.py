"""How well is a new device predicted from 10 or 20 of its measurements?

Leave one device family out: the other families of a file are the source bank, 10 or 20 networks of the left-out device
are measured, and a quarter of the networks (never among the source or target samples) tests. On ``mnasnet_anb`` every
FPGA is new in turn, and GPUs and TPUs alone are its sources: devices of another FPGA are left out, too.

    python experiments/benchmarks/few_shot_latency.py --data ../shared/data/device_latency --json out.json

About 25 minutes on one core for 10 seeds. One CSV row per space, device, method and sample count; rows of spaces that
are not asked for (``--tasks``) are kept. Methods: ``chosen`` and ``random`` are the product's transfer with networks it
chose or drawn at random; ``basis_ridge`` is the plain baseline (source predictions, principal components, ridge) on the
random ones; ``all_rows`` is a predictor of the device's own rows, all of the training part: the ceiling that its noise
sets.
"""

import argparse
import csv
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
FIGURES = ("spearman", "within_10", "mape", "coverage")
TEST_SHARE = 0.25
LEAST_ERROR = 1e-4  # figures are rounded to it; accelerators whose table is a sum of costs are predicted exactly
_METHODS = ("chosen", "random", "basis_ridge")
COMPONENTS, PENALTY = 6, 0.01  # of the baseline, its best on average over the files


@dataclass(frozen=True)
class Task:
    """A file, the devices that are new in turn, and what is to be reached there on average.

    Attributes:
        file: Parquet file without suffix.
        kinds: of rows used.
        target_class: ``device_class`` of the new devices, which the sources are not of; None for all devices.
        goals: (samples, figure) -> value to reach; figures are fractions.
    """

    file: str
    kinds: tuple[str, ...] | None
    target_class: str | None
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
    "mnasnet_anb": Task("mnasnet_anb", None, "fpga", {(20, "spearman"): 0.92, (20, "within_10"): 0.50}),
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


def bank_of(whole: SourceBank, table: LatencyTable, task: Task, index: int) -> SourceBank:
    """Returns the source devices of a new device, whose number in the table is ``index``."""
    alike = [family for family, own in zip(table.families, table.classes, strict=True) if own == task.target_class]
    for family in {table.families[index], *alike}:
        whole = whole.without(family)
    return whole


def seed_rows(name: str, task: Task, table: LatencyTable, seed: int) -> Iterator[dict[str, object]]:
    """Yields the figures of one seed, a row per device, method and sample count."""
    rng = np.random.default_rng(seed)
    train, test = split(table, rng)
    whole = SourceBank.fit(
        table.features[train], table.values[train], table.devices, table.families, columns=table.columns
    )  # fmt: skip
    ceilings = np.exp(whole.predict_logs(table.features[test]))
    for index, device in enumerate(table.devices):
        if task.target_class not in {None, table.classes[index]}:
            continue
        bank = bank_of(whole, table, task, index)
        measured = table.values[test, index]
        row = {"space": name, "device": device, "seed": seed}
        yield row | {"method": "all_rows", "samples": "all", **figures(ceilings[:, index], measured)}
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


def summarise(
    rows: list[dict[str, object]], keys: tuple[str, ...] = ("space", "device", "method", "samples")
) -> list[dict[str, object]]:
    """Returns a row for each combination of the keys' values: mean and worst of each figure over the seeds."""
    found: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    summaries = []
    for values, members in found.items():
        summary = dict(zip(keys, values, strict=True)) | {"seeds": len(members)}
        for figure in FIGURES:
            seen = [float(str(member[figure])) for member in members if figure in member]
            worst = max if figure == "mape" else min
            summary |= {f"{figure}_mean": round(float(np.mean(seen)), 4) if seen else ""}
            summary |= {f"{figure}_worst": round(worst(seen), 4) if seen else ""}
        summaries.append(summary)
    return summaries


def kept_rows(path: Path, spaces: set[str]) -> list[dict[str, object]]:
    """Returns the rows of a results file of other spaces than these."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file) if row["space"] not in spaces]


def reach(devices: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    """Returns which goals are met by the rows of `summarise`, each with the ceiling where all rows are used."""
    found: dict[str, dict[str, object]] = {}

    def of(space: str, method: str, figure: str, samples: int | None = None) -> dict[str, float]:
        return {
            str(row["device"]): float(str(row[f"{figure}_mean"]))
            for row in devices
            if (row["space"], row["method"]) == (space, method)
            and (samples is None or str(samples) == str(row["samples"]))
        }

    def note(name: str, value: float, goal: float, *, below: bool = False, **beside: float) -> None:
        holds = value <= goal if below else value >= goal
        rounded = {k: round(v, 4) for k, v in beside.items()}
        found[name] = {"value": round(value, 4), "goal": goal, "holds": holds, **rounded}

    spaces = [name for name in TASKS if of(name, "chosen", "spearman")]
    for name in spaces:
        for (samples, figure), goal in TASKS[name].goals.items():
            means = {m: float(np.mean([*of(name, m, figure, samples).values()])) for m in _METHODS}
            ceiling = float(np.mean([*of(name, "all_rows", figure).values()]))
            value = means.pop("chosen")
            note(f"{name}_{figure}_at_{samples}", value, goal, below=figure == "mape", **means, all_rows=ceiling)
    if "fbnet" in spaces:
        own, all_rows = of("fbnet", "chosen", "spearman", 20), of("fbnet", "all_rows", "spearman")
        note("fbnet_least_share_of_all_rows_spearman_at_20", min(own[d] / all_rows[d] for d in own), 0.95)
    ratios = [
        (error + LEAST_ERROR) / (of(name, "random", "mape", samples)[device] + LEAST_ERROR)
        for name in spaces
        for samples in SAMPLES
        for device, error in of(name, "chosen", "mape", samples).items()
    ]
    coverages = [value for name in spaces for value in of(name, "chosen", "coverage", 20).values()]
    if spaces:
        note("error_chosen_over_random_mean", float(np.mean(ratios)), 0.8, below=True)
        note("error_chosen_over_random_most", max(ratios), 1.05, below=True)
        note("least_coverage_at_20", min(coverages), 0.86)
        note("most_coverage_at_20", max(coverages), 0.94, below=True)
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
        if task.target_class not in {None, *table.classes}:
            print(f"{name}: no device of {path} is of class {task.target_class}, left out")
            continue
        for seed in range(options.seeds):
            print(f"{name}: seed {seed}", flush=True)
            rows.extend(seed_rows(name, task, table, seed))
        devices = summarise(rows)
        write_csv(options.csv, kept_rows(options.csv, {str(row["space"]) for row in rows}) + devices)
    devices = kept_rows(options.csv, set())
    reached = reach(devices)
    for goal, result in reached.items():
        print(goal, *(f"{key}={value}" for key, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps({"figures": {"devices": devices}, "reach": reached}, indent=1))


if __name__ == "__main__":
    main()
