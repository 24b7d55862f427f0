"""How well do 50 or 200 measured networks of one device predict networks it has not seen?

The MnasNet space of Accel-NASBench. For every seed a quarter of the networks tests, and the rows learned from are drawn
at random from the others, as `nas latency fit` would: every kind of predictor is cross-validated on those rows alone,
and the best is scored (``chosen``). Every kind by itself is scored too, and ``all_rows`` is the Gaussian process or the
trees, whichever the validation chose at 200, on 2,000 rows: the ceiling that the device's noise sets.

    OMP_NUM_THREADS=1 python experiments/benchmarks/single_device_latency.py --data ../shared/data/device_latency \
        --json out.json
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from csv_file import write_csv
from few_shot_latency import interval_figures, split, summarise
from latency_tables import LatencyTable, load_table

from latency_predictors.base import Prediction
from latency_predictors.evaluation import fit_best_predictor
from latency_predictors.kinds import list_kinds, predictor_kind

RESULTS = Path(__file__).parent / "results" / "single_device_latency.csv"
SAMPLES = (50, 200)
CEILING_ROWS = 2000
GOALS = {
    (device, samples): goal
    for device, goals in {
        "nvidia_a100": (0.90, 0.99),
        "nvidia_rtx_3090": (0.90, 0.99),
        "google_tpu_v2": (0.90, 0.99),
        "xilinx_zcu102": (0.85, 0.97),
    }.items()
    for samples, goal in zip(SAMPLES, goals, strict=True)
}
"""Least share of networks within 10 %."""


def seed_rows(table: LatencyTable, seed: int, ceiling: bool) -> Iterator[dict[str, object]]:
    """Yields the figures of one seed, a row per device, method and number of rows."""
    rng = np.random.default_rng(seed)
    train, test = split(table, rng)
    for index, device in enumerate(table.devices):
        measured = table.values[test, index]

        def row(method: str, kind: str, samples: int, prediction: Prediction) -> dict[str, object]:
            about = {"device": device, "seed": seed, "method": method, "kind": kind, "samples": samples}  # noqa: B023
            return about | interval_figures(prediction, measured)  # noqa: B023

        drawn = rng.permutation(train)
        best = ""
        for samples in SAMPLES:
            rows = drawn[:samples]
            features, values = table.features[rows], table.values[rows, index]
            fitted = fit_best_predictor(
                features, values, metric="latency_ms", device=device, columns=table.columns, repeats=1, seed=seed
            )
            best = fitted.predictor.kind
            for kind in list_kinds():
                predictor = predictor_kind(kind)("latency_ms", device, seed=seed, columns=table.columns)
                prediction = predictor.fit_features(features, values).predict_features(table.features[test])
                yield row(kind, kind, samples, prediction)
                if kind == best:
                    yield row("chosen", kind, samples, prediction)
        if ceiling:
            rows = drawn[:CEILING_ROWS]
            predictor = predictor_kind(best)("latency_ms", device, seed=seed, columns=table.columns)
            predictor.fit_features(table.features[rows], table.values[rows, index])
            yield row("all_rows", best, len(rows), predictor.predict_features(table.features[test]))


def main() -> None:
    """Scores every device and writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of Parquet files in the shared schema")
    parser.add_argument("--json", type=Path, help="file for goals and figures")
    parser.add_argument("--csv", type=Path, default=RESULTS, help="file for figures per device")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ceilings", type=int, default=1, help="seeds that also learn from 2,000 rows, the slow part")
    options = parser.parse_args()
    table = load_table(options.data / "mnasnet_anb.parquet")
    rows: list[dict[str, object]] = []
    for seed in range(options.seeds):
        print(f"seed {seed}", flush=True)
        rows.extend(seed_rows(table, seed, seed < options.ceilings))
    devices = summarise(rows, ("device", "method", "samples"))
    for found in devices:
        of = [row["kind"] for row in rows if all(row[key] == found[key] for key in ("device", "method", "samples"))]
        found["kinds"] = " ".join(f"{kind}:{of.count(kind)}" for kind in sorted(set(map(str, of))))
    reach = {}
    for found in devices:
        goal = GOALS.get((str(found["device"]), int(str(found["samples"]))))
        if found["method"] == "chosen" and goal is not None:
            value = float(str(found["within_10_mean"]))
            name = f"{found['device']} within 10 % after {found['samples']}"
            reach[name] = {"value": value, "goal": goal, "holds": value >= goal}
            print(name, reach[name], flush=True)
    write_csv(options.csv, devices)
    if options.json:
        options.json.write_text(json.dumps({"figures": {"rows": devices}, "reach": reach}, indent=1))


if __name__ == "__main__":
    main()
