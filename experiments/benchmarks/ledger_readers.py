"""How much readers of the ledger slow its writer: the part of driver_overhead.py that needs no Ray.

The writer commits candidates and their results as fast as it can, as a search does whose evaluations take no time.
The readers are threads of another process, each with a read-only connection of its own, as a service has them that
answers many open pages: every `PERIOD_S` seconds each asks how many candidates are in which state, and for the results
since its last question. Blocks of commits with and without readers alternate, so that what else the machine does
meets both alike.
"""

import json
import multiprocessing
import random
import sqlite3
import statistics
import tempfile
import threading
import time
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

import numpy as np

from nas.objectives import Value
from nas.search.ledger import Ledger
from nas.search.records import Candidate, Proposal
from search_spaces.space import load_space

PERIOD_S = 5.0
GOAL = 0.20


def _poll(path: Path, polling: Event, over: Event, polls: Semaphore, seed: int) -> None:
    """One page: asks every `PERIOD_S` seconds, out of step with the others, while ``polling`` is set."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)
    time.sleep(random.Random(seed).uniform(0, PERIOD_S))
    seen = -1
    while not over.is_set():
        if polling.is_set():
            connection.execute("SELECT state, COUNT(*) FROM candidate GROUP BY state").fetchall()
            rows = connection.execute("SELECT candidate, metrics FROM result WHERE candidate > ?", (seen,)).fetchall()
            for number, metrics in rows:
                json.loads(metrics)
                seen = max(seen, number)
            polls.release()
        over.wait(PERIOD_S)
    connection.close()


def _read(path: Path, readers: int, polling: Event, over: Event, polls: Semaphore) -> None:
    threads = [threading.Thread(target=_poll, args=(path, polling, over, polls, seed)) for seed in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure_readers(readers: int, blocks: int, commits: int) -> list[dict[str, object]]:
    """Returns a row for each block of commits, without and with readers in turn.

    Args:
        readers: that poll at once.
        blocks: of each kind.
        commits: candidates of a block, each with two commits.
    """
    space, rng = load_space("tiny"), np.random.default_rng(0)
    networks = {}
    while len(networks) < 2 * blocks * commits:
        architecture = space.sample(rng)
        networks[architecture.key] = architecture
    left = iter(enumerate(networks.values()))
    context = multiprocessing.get_context("spawn")
    polling, over, polls = context.Event(), context.Event(), context.Semaphore(0)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.db") as ledger, ledger.coordinated():
        ledger.begin({"space": space.name})
        process = context.Process(
            target=_read, args=(ledger_path := Path(folder) / "ledger.db", readers, polling, over, polls)
        )
        process.start()
        try:
            for block in range(2 * blocks):
                reading = block % 2 == 1
                (polling.set if reading else polling.clear)()
                time.sleep(PERIOD_S)  # until every page asks, or none; the same pause before either kind
                before = _count(polls)
                begun_s, begun_cpu_s = time.perf_counter(), time.thread_time()
                times_ms = []
                for _ in range(commits):
                    number, architecture = next(left)
                    start_s = time.perf_counter()
                    candidate = Candidate(number, architecture, {"macs": Value(1.0, "analytic")})
                    proposal = Proposal(number, number, dict(architecture.values), {"trial": {}, "study": {}})
                    attempt = ledger.propose([proposal], candidate)
                    assert attempt is not None
                    ledger.commit_result(attempt, {"accuracy": 0.5}, "benchmark")
                    times_ms.append((time.perf_counter() - start_s) * 1e3)
                wall_s, cpu_s = time.perf_counter() - begun_s, time.thread_time() - begun_cpu_s
                rows.append(
                    {
                        "readers": readers if reading else 0,
                        "block": block,
                        "candidates": commits,
                        "polls_per_s": round((_count(polls) - before) / wall_s, 1),
                        "write_ms_mean": round(wall_s / commits * 1e3, 3),
                        "write_cpu_ms_mean": round(cpu_s / commits * 1e3, 3),
                        "write_ms_median": round(statistics.median(times_ms), 3),
                    }
                )
        finally:
            over.set()
            process.join()
    assert not ledger_path.exists()
    return rows


def _count(polls: Semaphore) -> int:
    value: int = polls.get_value()  # type: ignore[attr-defined]
    return value


def slowdown(rows: list[dict[str, object]], column: str = "write_ms_mean") -> float:
    """Returns by what share readers slow the writer: the median over pairs of neighbouring blocks.

    Args:
        rows: of `measure_readers`.
        column: wall time, or the CPU time of the writer alone, which other work on the machine hardly touches.
    """
    times = [float(str(row[column])) for row in rows]
    return statistics.median(reading / alone for alone, reading in zip(times[::2], times[1::2], strict=True)) - 1
