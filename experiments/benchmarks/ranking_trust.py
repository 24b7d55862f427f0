"""How far can a supernet's ranking be trusted? Its order of a run's networks against that of trainings by themselves.

For each run given, `nas trust` trains what is missing of ``--count`` networks with ``--seeds`` seeds, half of them
spread over the front and the others over the space, and compares their validation accuracies with the supernet's. The
goal is Kendall's tau over the whole range, of the mean over the seeds, and holds where it holds in every run; what it
is among the supernet's top third, and how well two seeds agree with one another, stands beside it in the CSV file. A
second file has the networks. Killed, the same command goes on.

    python experiments/benchmarks/ranking_trust.py runs/fashion_mnist --json out.json
"""

import argparse
import json
import os
import platform
from pathlib import Path

from csv_file import write_csv

from nas import api
from nas.cli.output import ProgressLine
from nas.trust import LEAST_NETWORKS, RankingTrust, network_rows

GOAL_TAU = 0.6
RESULTS = Path(__file__).parent / "results" / "ranking_trust.csv"


def agreement_rows(trust: RankingTrust) -> list[dict[str, object]]:
    """Returns a row for each two orders that are compared."""
    return [
        {
            "run": trust.run,
            "of": one.of,
            "networks": one.networks,
            **{
                f"{name}{end}": round(value, 4)
                for name, found in (("kendall", one.kendall), ("spearman", one.spearman))
                for end, value in (("", found.value), ("_lower", found.lower), ("_upper", found.upper))
            },
            "tied_within": "" if trust.tied_within is None else round(trust.tied_within, 4),
        }
        for one in trust.agreements
    ]


def main() -> None:
    """Trains what is missing and writes the CSV files and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="searched runs with a supernet")
    parser.add_argument("--count", type=int, default=LEAST_NETWORKS, help="networks of each run")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each network")
    parser.add_argument("--epochs", type=int, help="of each training; by default the supernet's")
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    with ProgressLine() as progress:
        found = [api.trust(run, options.count, options.seeds, progress, epochs=options.epochs) for run in options.runs]
    rows = [row for trust in found for row in agreement_rows(trust)]
    write_csv(options.csv, rows)
    networks = [{"run": trust.run, **row} for trust in found for row in network_rows(trust.networks)]
    write_csv(options.csv.with_stem(f"{options.csv.stem}_networks"), networks)
    for row in rows:
        print(*row.values())
    tau = min(trust.agreements[0].kendall.value for trust in found)
    reach = {"kendall_tau_all": {"value": round(tau, 4), "goal": GOAL_TAU, "holds": tau >= GOAL_TAU}}
    if options.json:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
        figures = {"machine": machine, "agreements": rows, "networks": networks}
        options.json.write_text(json.dumps({"figures": figures, "reach": reach}, indent=2))
    print(f"kendall_tau_all: {tau:.3f}, goal {GOAL_TAU}: {'holds' if tau >= GOAL_TAU else 'MISSED'}")


if __name__ == "__main__":
    main()
