"""How well do 100 measured networks of this machine predict 50 others?

Measurement sets as `experiments/sample_data/measure.py` writes them. For every split, 150 networks are drawn from a set
at random; a predictor is fitted to 100 of them as `nas latency fit` does it and scored on the other 50 (40 to 49 where
a set has fewer). ``all_rows`` learns from every row but those: the ceiling that the rows' noise sets.

    python experiments/sample_data/measure.py --space mobilenet_v3 --count 160 --out mobilenet
    OMP_NUM_THREADS=1 python experiments/benchmarks/local_latency.py --rows experiments/sample_data mobilenet \
        --json out.json
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from csv_file import write_csv
from few_shot_latency import interval_figures, summarise

from latency_predictors.measurement import Measurement
from latency_predictors.store import MeasurementSet
from nas.api.latency import fit_measured
from search_spaces.space import load_space

RESULTS = Path(__file__).parent / "results" / "local_latency.csv"
SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"
LEARN, TEST, LEAST_TEST = 100, 50, 40
GOAL = 0.95
"""Least share of fresh networks within 10 %."""
KEYS = ("space", "device", "method", "samples")


def split_rows(rows: list[Measurement], seed: int, ceiling: bool) -> Iterator[dict[str, object]]:
    """Yields the figures of one split: from 100 rows and, where asked, from all the others."""
    drawn = [rows[index] for index in np.random.default_rng(seed).permutation(len(rows))]
    tested = min(TEST, len(rows) - LEARN)
    test, rest = drawn[:tested], drawn[tested:]
    architectures = [row.architecture for row in test if row.architecture is not None]
    space = load_space(architectures[0].space)
    measured = np.array([row.latency_ms for row in test], np.float64)
    for method, samples in (("fit", LEARN), ("all_rows", len(rest)))[: 2 if ceiling else 1]:
        predictor = fit_measured(rest[:samples], space, "latency_ms").predictor
        prediction = predictor.predict_architectures(architectures, {space.name: space})
        about = dict(zip(KEYS, (space.name, rows[0].profile.id, method, samples), strict=True))
        yield about | {"seed": seed, "kind": predictor.kind} | interval_figures(prediction, measured)


def main() -> None:
    """Scores every measurement set and writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=Path, default=[SAMPLE_DATA], help="folders of measurement sets")
    parser.add_argument("--seeds", type=int, default=10, help="random splits")
    parser.add_argument("--ceilings", type=int, default=3, help="splits that also learn from all other rows")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    options = parser.parse_args()

    found: list[dict[str, object]] = []
    for file in (file for folder in options.rows for file in sorted(folder.glob("*.parquet"))):
        rows = MeasurementSet(file).read_usable()
        if len(rows) < LEARN + LEAST_TEST:
            least = LEARN + LEAST_TEST
            parser.error(f"{file} has {len(rows)} usable networks, at least {least} are needed: measure more")
        for seed in range(options.seeds):
            found += split_rows(rows, seed, seed < options.ceilings)
        print(f"{file.name}: {len(rows)} usable networks", flush=True)
    devices = summarise(found, KEYS)
    reach = {}
    for row in devices:
        print(*row.values())
        if row["method"] == "fit":
            value = float(str(row["within_10_mean"]))
            reach[f"{row['space']} {row['device']} within 10 %"] = {
                "value": value,
                "goal": GOAL,
                "holds": value >= GOAL,
            }
    write_csv(options.csv, devices)
    if options.json:
        options.json.write_text(json.dumps({"figures": {"rows": devices}, "reach": reach}, indent=1))


if __name__ == "__main__":
    main()
