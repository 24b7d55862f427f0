"""Does a search survive kills? Real Ray, real SIGKILLs, and a verdict from the ledger alone.

A search of the space `tiny` with a pool of Ray actors is started as a process of its own, killed with SIGKILL at a
random moment, started again, and so on; in about half of its lives one of its workers is killed as well. The moments
are spread over the search and reach into the starts and restarts of Ray. The evaluator is real and cheap: a ridge
classifier on random features of scikit-learn's digits, as many as the architecture has channels, plus `EVALUATION_S`
of sleep, so that kills meet running evaluations; every evaluation that ends writes a line to a log, which is compared
with the ledger's attempts.

lost: evaluations of the budget without a result. doubled: candidates with more than one result or accepted attempt,
and evaluations in the log that no attempt explains. left running: attempts and candidates without an end. hung: lives
that neither reached their kill nor ended within `LIFE_TIMEOUT_S`.

    python experiments/benchmarks/chaos.py --kills 20 --json out.json
"""

import argparse
import json
import logging
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from csv_file import write_csv

from nas.config import RayConfig, SearchConfig
from nas.evaluators.base import Evaluator
from nas.evaluators.costs import AnalyticAndPredictedCosts
from nas.objectives import Objective
from nas.search.executors.ray_actors import RayExecutor
from nas.search.ledger import Ledger
from nas.search.loop import run_search
from nas.search.problem import SearchProblem
from search_spaces.architecture import Architecture
from search_spaces.space import load_space

RESULTS = Path(__file__).parent / "results"
EVALUATION_S = 0.1
WORKERS = 2
LIFE_TIMEOUT_S = 240.0


@dataclass
class RandomFeatures(Evaluator):
    """Accuracy on held-out digits of a ridge classifier on random features.

    Attributes:
        log: gets a line for every evaluation that ends; several processes append to it at once.
    """

    log: Path

    def setup(self) -> None:
        """Loads the images."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        self._images, self._labels = images / 16.0, labels

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        """Fits on the first 1,200 images and returns the share of the others that is classified correctly."""
        channels = sum(int(value) for name, value in architecture.values if name.endswith("channels"))
        rng = np.random.default_rng(int(architecture.key[-8:], 16))
        features = np.maximum(self._images @ rng.normal(size=(64, channels)), 0)
        train, targets = features[:1200], np.eye(10)[self._labels[:1200]]
        weights = np.linalg.solve(train.T @ train + np.eye(channels), train.T @ targets)
        accuracy = float(((features[1200:] @ weights).argmax(1) == self._labels[1200:]).mean())
        time.sleep(EVALUATION_S)
        with self.log.open("ab", buffering=0) as file:  # O_APPEND: a line is one write, whole or not there
            file.write(f"{architecture.key}\n".encode())
        return {"accuracy": accuracy}


def drive(folder: Path, trials: int) -> None:
    """One life of the search."""
    logging.disable(logging.WARNING)
    space = load_space("tiny")
    objectives = (Objective.parse("accuracy"), Objective.parse("macs"))
    with Ledger(folder / "ledger.db") as ledger:
        run_search(
            SearchProblem(space, objectives),
            evaluator=RandomFeatures(folder / "evaluations.log"),
            costs=AnalyticAndPredictedCosts(space, objectives, precisions={}, predictors={}),
            executor=RayExecutor(RayConfig(workers=WORKERS)),
            ledger=ledger,
            config=SearchConfig(sampler="nsga2", budget=trials),
            seed=0,
        )


def done(folder: Path) -> int:
    """How many candidates have a result."""
    try:
        with Ledger(folder / "ledger.db") as ledger:
            return sum(candidate.state == "done" for candidate in ledger.candidates())
    except Exception:
        return 0  # no ledger yet, or no tables in it yet


def live(folder: Path, trials: int, kill_at: int | None, chance: random.Random) -> dict[str, object]:
    """Starts the search and kills it once ``kill_at`` results are there; None lets it end by itself."""
    begun_s, before = time.monotonic(), done(folder)
    command = [sys.executable, __file__, "--drive", str(folder), "--trials", str(trials)]
    process = subprocess.Popen(command)
    delay_s = chance.uniform(0, 0.5) if kill_at is not None and before < kill_at else chance.uniform(0, 10)
    worker_too = kill_at is not None and chance.random() < 0.5
    worker_killed = False
    while process.poll() is None and time.monotonic() - begun_s < LIFE_TIMEOUT_S:
        if worker_too and not worker_killed and done(folder) > before:
            worker_killed = kill_worker(process.pid, chance)
        if kill_at is not None and done(folder) >= kill_at:
            time.sleep(delay_s)
            break
        time.sleep(0.05)
    hung = time.monotonic() - begun_s >= LIFE_TIMEOUT_S
    killed = process.poll() is None
    if killed:
        process.send_signal(signal.SIGKILL)
    process.wait()
    return {
        "results_before": before,
        "results_after": done(folder),
        "driver_killed": int(killed and not hung),
        "hung": int(hung),
        "worker_killed": int(worker_killed),
        "exit_status": process.returncode,
        "life_s": round(time.monotonic() - begun_s, 1),
    }


def kill_worker(driver: int, chance: random.Random) -> bool:
    """Kills one of the driver's actors; returns whether there was one."""
    try:
        family = psutil.Process(driver).children(recursive=True)
        actors = [member for member in family if "ray::_Worker" in " ".join(member.cmdline() or [member.name()])]
        if not actors:
            return False
        chance.choice(actors).kill()
    except psutil.NoSuchProcess:
        return False
    return True


def verdict(folder: Path, trials: int) -> dict[str, int]:
    """Judges the ledger and the log of evaluations."""
    with Ledger(folder / "ledger.db") as ledger:
        candidates, attempts = ledger.candidates(), ledger.attempts()
    accepted = Counter(attempt.candidate for attempt in attempts if attempt.ending == "done")
    started = Counter(attempt.candidate for attempt in attempts)
    logged = Counter((folder / "evaluations.log").read_text().split())
    numbers = {candidate.architecture.key: candidate.number for candidate in candidates}
    endings = Counter(attempt.ending for attempt in attempts)
    finished = [candidate for candidate in candidates if candidate.state == "done"]
    return {
        "evaluated": len(finished),
        "lost": trials - len(finished) + sum(accepted[candidate.number] == 0 for candidate in finished),
        "doubled": sum(count - 1 for count in accepted.values())
        + sum(max(0, count - started[numbers[key]]) for key, count in logged.items()),
        "left_running": endings[None] + sum(candidate.state == "open" for candidate in candidates),
        "given_up": sum(candidate.state == "failed" for candidate in candidates),
        "attempts": len(attempts),
        "attempts_cut_off_with_the_driver": endings["abandoned"],
        "attempts_lost_with_a_worker": endings["lost"],
        "evaluations_logged": logged.total(),
    }


def main() -> None:
    """Kills, restarts, verifies; writes CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV file")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        drive(options.drive, options.trials)
        return
    chance = random.Random(options.seed)
    # The last tenth is left to the last life, so that every kill meets a search that is not over.
    moments = sorted(chance.randrange(int(0.9 * options.trials)) for _ in range(options.kills))
    lives: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kill_at in [*moments, None]:
            row = {"life": len(lives), "kill_at": "" if kill_at is None else kill_at}
            lives.append(row | live(folder, options.trials, kill_at, chance))
            print(", ".join(f"{key} {value}" for key, value in lives[-1].items()), flush=True)
        found = verdict(folder, options.trials)
    kills = sum(int(str(row["driver_killed"])) for row in lives)
    workers = sum(int(str(row["worker_killed"])) for row in lives)
    print(f"{kills} kills of the driver, {workers} of a worker: {found}")
    write_csv(options.results / f"chaos_{options.kills}_kills_{options.trials}_trials_cpu.csv", lives)
    if options.json:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
        figures = {"machine": machine, "worker_kills": workers, "verdict": found, "lives": lives}
        found["hung"] = sum(int(str(row["hung"])) for row in lives)
        goals = {"lost": 0, "doubled": 0, "left_running": 0, "hung": 0, "evaluated": options.trials}
        reach = {key: {"value": found[key], "goal": goal, "holds": found[key] == goal} for key, goal in goals.items()}
        reach["driver_kills"] = {"value": kills, "goal": options.kills, "holds": kills >= options.kills}
        options.json.write_text(json.dumps({"figures": figures, "reach": reach}, indent=2))


if __name__ == "__main__":
    main()
