"""How well a few dozen measured networks of a space predict the others on this machine.

Random networks are measured on every device profile, and every kind of predictor is cross-validated on the rows that
the protocol did not refuse (5 folds, 3 repeats; the intervals come from folds within the folds). Refused rows are
counted, not scored. With the quick preset, 48 networks of `tiny` take one to three minutes a profile on two cores that
others use too; the figures in `results/` were taken on such a machine.

    python experiments/benchmarks/local_predictor.py --json out.json
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

from latency_predictors.architecture_features import architecture_features, feature_columns
from latency_predictors.evaluation import cross_validate
from latency_predictors.kinds import list_kinds
from latency_predictors.measurement import DeviceProfile
from latency_predictors.session import measure_networks
from latency_predictors.store import MeasurementSet
from search_spaces.architecture import Architecture
from search_spaces.layer import LayerSpec
from search_spaces.space import load_space

GOAL_SPEARMAN, GOAL_ROWS = 0.95, 40
PROFILES = ("local/onnxruntime:fp32", "local/onnxruntime:int8", "local/litert:fp32", "local/litert:int8")
RESULTS = Path(__file__).parent / "results"


def evaluate(profile: DeviceProfile, options: argparse.Namespace) -> list[dict[str, object]]:
    """Returns a row for each kind of predictor on one device profile, the best first."""
    space, rng = load_space(options.space), np.random.default_rng(options.seed)
    networks: dict[str, tuple[Architecture, Sequence[LayerSpec]]] = {}
    while len(networks) < options.count:
        architecture = space.sample(rng)
        networks[architecture.key] = (architecture, space.layers(architecture))
    begun_s = time.perf_counter()
    store = MeasurementSet(options.rows / f"{profile.id.replace('/', '-')}.parquet") if options.rows else None
    measured = measure_networks(
        list(networks.values()), profile, preset=options.preset, seed=options.seed, store=store
    )  # fmt: skip
    seconds = time.perf_counter() - begun_s
    usable = [row for row in measured if row.usable and row.latency_ms]
    about = {
        "device": profile.id,
        "space": options.space,
        "preset": options.preset,
        "measured": len(measured),
        "refused": len(measured) - len(usable),
        "noisy": sum(row.verdict == "noisy" for row in usable),
        "measuring_s": round(seconds, 1),
    }
    if len(usable) < GOAL_ROWS:
        return [about]
    latencies_ms = np.array([row.latency_ms for row in usable], dtype=np.float64)
    architectures = [networks[row.key][0] for row in usable]
    columns = feature_columns(architectures, {space.name: space})
    features = architecture_features(architectures, columns, {space.name: space})
    noise = np.array([row.half_width for row in usable])
    found = [cross_validate(kind, features, latencies_ms, noise, columns=columns) for kind in list_kinds()]
    found.sort(key=lambda validation: validation.scores.log_error)
    spread = {"fastest_ms": round(latencies_ms.min(), 5), "slowest_ms": round(latencies_ms.max(), 5)}
    return [
        about | spread | {name: round(v, 4) if isinstance(v, float) else v for name, v in validation.to_dict().items()}
        for validation in found
    ]


def main() -> None:
    """Measures every profile and writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--count", type=int, default=48, help="networks to measure on each profile")
    parser.add_argument("--profiles", nargs="+", default=PROFILES, metavar="DEVICE:PRECISION")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, help="folder of measurement sets, to keep or go on with")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()

    rows: list[dict[str, object]] = []
    reach: dict[str, dict[str, object]] = {}
    for text in options.profiles:
        device, _, precision = text.partition(":")
        profile = DeviceProfile(device, precision or "fp32")
        of_profile = evaluate(profile, options)
        rows += of_profile
        best = of_profile[0]
        value = best.get("spearman")
        reach[f"spearman {profile.id}"] = {
            "value": value,
            "goal": GOAL_SPEARMAN,
            "holds": isinstance(value, float) and value >= GOAL_SPEARMAN,
        }
        print(f"{profile.id}: {best['measured']} measured, {best['refused']} refused, {best['measuring_s']} s")
        for row in of_profile if value is not None else ():
            print(
                f"  {row['kind']!s:17s} Spearman {row['spearman']:.3f}, within 10 % {row['within_10']:.1%}, "
                f"MAPE {row['mape']:.1%}, 90 % interval covers {row['coverage']:.1%}, "
                f"its width {row['interval_width']:.1%}",
                flush=True,
            )
    table = options.csv or RESULTS / f"local_predictor_{options.space}_{options.preset}_{options.count}.csv"
    write_csv(table, rows)
    if options.json:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
        options.json.write_text(json.dumps({"figures": {"machine": machine, "rows": rows}, "reach": reach}, indent=2))


if __name__ == "__main__":
    main()
