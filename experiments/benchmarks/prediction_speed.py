"""How long do predictors take for 100,000 architectures on one core, features included?

For each space and each kind of predictor, fitted to random networks with made-up latencies: CPU time from architectures
to predictions with intervals, in a space that has lowered nothing before. The previous way, one network after the other
(layers, features of layers, prediction), is timed in the same run on a part of the architectures and scaled.

    OMP_NUM_THREADS=1 python experiments/benchmarks/prediction_speed.py --json out.json
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from csv_file import write_csv
from numpy.typing import NDArray

from latency_predictors.architecture_features import architecture_features, feature_columns
from latency_predictors.features import FEATURE_NAMES, network_features
from latency_predictors.kinds import list_kinds, predictor_kind
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace, load_space

Floats = NDArray[np.float64]

GOAL_S = 2.0
RESULTS = Path(__file__).parent / "results" / "prediction_speed_cpu.csv"


def distinct(space: SearchSpace, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Returns random architectures, each once, or as many as a small space has."""
    found: dict[Architecture, None] = {}
    for _ in range(3 * count):
        found[space.sample(rng)] = None
        if len(found) == count:
            break
    return list(found)


def made_up_rows(
    architectures: Sequence[Architecture], space: SearchSpace, rng: np.random.Generator
) -> tuple[tuple[str, ...], Floats, Floats]:
    """Returns columns, features ``(n, d)`` and made-up latencies ``(n,)`` for predictors to learn from."""
    spaces = {space.name: space}
    columns = feature_columns(architectures, spaces)
    features = architecture_features(architectures, columns, spaces)
    cost = features[:, : len(FEATURE_NAMES)] / features[:, : len(FEATURE_NAMES)].mean(axis=0).clip(1)
    # Costs per layer, and what they do not say: choices that change them, so that every kind has something to learn.
    bent = 0.2 * np.sin(3 * features[:, len(FEATURE_NAMES) :] @ rng.normal(size=len(columns) - len(FEATURE_NAMES)))
    return columns, features, cost.sum(axis=1) * np.exp(bent + rng.normal(0, 0.02, len(architectures)))


def measure(name: str, options: argparse.Namespace) -> list[dict[str, object]]:
    """Returns a row for each kind of predictor in one space."""
    rng = np.random.default_rng(options.seed)
    architectures = distinct(load_space(name), options.count, rng)
    few = architectures[: options.rows]
    columns, features, values = made_up_rows(few, load_space(name), rng)
    part = architectures[: options.count // 20]
    rows = []
    for kind in list_kinds():
        predictor = predictor_kind(kind)("latency_ms", "d", columns=columns).fit_features(features, values)
        seconds, before_s = [], []
        for _ in range(options.repeats):
            fresh = load_space(name)
            begun_s = time.process_time()
            predictor.predict_architectures(architectures, {name: fresh})
            seconds.append(time.process_time() - begun_s)
            fresh = load_space(name)
            begun_s = time.process_time()
            of_layers = network_features(fresh.layers(architecture) for architecture in part)
            before_s.append((time.process_time() - begun_s) * len(architectures) / len(part))
        assert len(of_layers) == len(part)
        rows.append(
            {
                "space": name,
                "kind": kind,
                "architectures": len(architectures),
                "rows_learned_from": len(few),
                "cpu_s": round(min(seconds), 2),
                "cpu_s_slowest": round(max(seconds), 2),
                "previous_features_cpu_s": round(min(before_s), 1),
                "times_less": round(min(before_s) / min(seconds), 1),
                "load_average_1_min": round(os.getloadavg()[0], 1),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Times every space and writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", nargs="+", default=["tiny", "efficientnet", "mobilenet_v3"])
    parser.add_argument("--count", type=int, default=100_000, help="architectures")
    parser.add_argument("--rows", type=int, default=100, help="networks learned from")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts: others use the machine too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = [row for name in options.spaces for row in measure(name, options)]
    reach = {
        f"{row['space']} {row['kind']}": {
            "value": row["cpu_s"], "goal": GOAL_S, "holds": float(str(row["cpu_s"])) <= GOAL_S,
        }
        for row in rows
    }  # fmt: skip
    write_csv(options.csv, rows)
    if options.json:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
        options.json.write_text(json.dumps({"figures": {"machine": machine, "rows": rows}, "reach": reach}, indent=2))


if __name__ == "__main__":
    main()
