"""Can the measuring protocol be trusted? Simulated sessions on devices whose true latency is known.

A/A: the same network measured twice differs (intervals apart). Slowdown: a network 5 % slower differs. Wrong: accepted
and more than 5 % off, on devices that throttle, change their clock, stutter or drift; the speed probe, which finds most
of that on real devices, sees nothing here, so that the reference network alone must. Coverage: the interval holds the
undisturbed latency.

    python experiments/benchmarks/protocol_self_test.py --json out.json
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the simulated sessions are those of the tests

from csv_file import write_csv

from latency_predictors.preset import PRESETS
from tests.latency_predictors.devices.sessions import KINDS, covers, differ, session, wrong

RESULTS = Path(__file__).parent / "results" / "protocol_self_test.csv"


def evaluate(preset: str, kind: str, sessions: int) -> dict[str, object]:
    """Returns the figures of a preset on one kind of device."""
    outcomes = [session(kind, PRESETS[preset], seed) for seed in range(sessions)]
    usable = [outcome for outcome in outcomes if outcome.verdict != "refused"]
    row: dict[str, object] = {
        "preset": preset,
        "device": kind,
        "sessions": sessions,
        "accepted": sum(outcome.verdict == "accepted" for outcome in outcomes) / sessions,
        "noisy": sum(outcome.verdict == "noisy" for outcome in outcomes) / sessions,
        "accepted_and_wrong": sum(map(wrong, outcomes)) / sessions,
        "coverage_usable": sum(map(covers, usable)) / len(usable),
        "coverage": sum(map(covers, outcomes)) / sessions,
    }
    if kind == "calm":
        again = [session(kind, PRESETS[preset], seed + 10**6) for seed in range(sessions)]
        slower = [session(kind, PRESETS[preset], seed + 2 * 10**6, 1.05) for seed in range(sessions)]
        row["same_differs"] = sum(map(differ, outcomes, again)) / sessions
        row["slower_found"] = sum(map(differ, outcomes, slower)) / sessions
    return row


def main() -> None:
    """Writes the CSV and, where asked, the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [evaluate(preset, kind, options.sessions) for preset in ("quick", "standard") for kind in KINDS]
    write_csv(RESULTS, [{key: f"{v:.4g}" if isinstance(v, float) else v for key, v in row.items()} for row in rows])
    reach = {}
    for row in rows:
        name = f"{row['preset']}, {row['device']}"
        goals: list[tuple[str, float, bool]] = [("accepted_and_wrong", 0.01, False)]
        if row["device"] == "calm":
            goals += [("coverage", 0.90, True), ("same_differs", 0.05, False), ("slower_found", 0.90, True)]
        for figure, goal, least in goals:
            value = float(str(row[figure]))
            holds = value >= goal if least else value <= goal
            reach[f"{name}: {figure}"] = {"value": value, "goal": goal, "holds": holds}
            print(f"{name}: {figure} {value:.1%} ({'at least' if least else 'at most'} {goal:.0%})")
    if options.json:
        options.json.write_text(json.dumps({"figures": rows, "reach": reach}, indent=1) + "\n")


if __name__ == "__main__":
    main()
