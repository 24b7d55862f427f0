"""How much readers of the ledger slow its writer: the part of driver_overhead.py that needs no Ray.

Two writers: one does nothing but commit candidates and their results, as fast as it can; the other is a search by
NSGA-II whose evaluations take no time.
The readers are threads of another process, each with a read-only connection of its own, as a service has them that
answers many open pages: every `PERIOD_S` seconds each asks how many candidates are in which state, and for the results
since its last question. Blocks of commits with and without readers alternate, so that what else the machine does
meets both alike.
"""

import contextlib
import json
import multiprocessing
import random
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path
from typing import Self

import numpy as np

from nas.objectives import Value
from nas.progress import Progress
from nas.search.ledger import Ledger
from nas.search.records import Candidate, Proposal
from search_spaces.architecture import Architecture
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


class Pages:
    """Readers in a process of their own, which ask in every other block of candidates.

    Args:
        path: of the ledger.
        readers: pages open at once.
        commits: candidates of a block.
        writer: named in the rows.

    Attributes:
        rows: one for each block that is over, without and with readers in turn.
    """

    def __init__(self, path: Path, readers: int, commits: int, writer: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._polling, self._over, self._polls = context.Event(), context.Event(), context.Semaphore(0)
        self._process = context.Process(target=_read, args=(path, readers, self._polling, self._over, self._polls))
        self._readers, self._commits, self._writer = readers, commits, writer
        self.rows: list[dict[str, object]] = []

    def __enter__(self) -> Self:
        self._process.start()
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._process.join()

    def _begin(self) -> None:
        (self._polling.set if len(self.rows) % 2 else self._polling.clear)()
        time.sleep(PERIOD_S)  # until every page asks, or none; the same pause before either kind
        self._before = self._polled()
        self._begun_cpu_s, self._ends_s = time.thread_time(), [time.perf_counter()]

    def written(self) -> None:
        """Takes note of a candidate and its result; the writer's thread calls it."""
        self._ends_s.append(time.perf_counter())
        if len(self._ends_s) <= self._commits:
            return
        wall_s, cpu_s = self._ends_s[-1] - self._ends_s[0], time.thread_time() - self._begun_cpu_s
        self.rows.append(
            {
                "writer": self._writer,
                "readers": self._readers if len(self.rows) % 2 else 0,
                "block": len(self.rows),
                "candidates": self._commits,
                "polls_per_s": round((self._polled() - self._before) / wall_s, 1),
                "write_ms_mean": round(wall_s / self._commits * 1e3, 3),
                "write_cpu_ms_mean": round(cpu_s / self._commits * 1e3, 3),
                "write_ms_median": round(statistics.median(np.diff(self._ends_s)) * 1e3, 3),
            }
        )
        self._begin()

    def _polled(self) -> int:
        value: int = self._polls.get_value()
        return value


def readers_of_commits(readers: int, blocks: int, commits: int) -> list[dict[str, object]]:
    """Returns the rows of `Pages` for a writer that does nothing but commit, as fast as it can.

    Args:
        readers: pages open at once.
        blocks: of each kind.
        commits: candidates of a block, each with two commits.
    """
    space, rng = load_space("tiny"), np.random.default_rng(0)
    networks: dict[str, Architecture] = {}
    while len(networks) < 2 * blocks * commits:
        architecture = space.sample(rng)
        networks[architecture.key] = architecture
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger(path := Path(folder) / "ledger.db") as ledger,
        ledger.coordinated(),
    ):
        ledger.begin({"space": space.name})
        with Pages(path, readers, commits, "commits") as pages:
            for number, architecture in enumerate(networks.values()):
                candidate = Candidate(number, architecture, {"macs": Value(1.0, "analytic")})
                proposal = Proposal(number, number, dict(architecture.values), {"trial": {}, "study": {}})
                attempt = ledger.propose([proposal], candidate)
                assert attempt is not None
                ledger.commit_result(attempt, {"accuracy": 0.5}, "benchmark")
                pages.written()
    return pages.rows


def readers_of_a_search(
    readers: int, blocks: int, commits: int, search: Callable[[Ledger, int, Callable[[Progress], None]], None]
) -> list[dict[str, object]]:
    """Returns the rows of `Pages` for a search whose evaluations take no time.

    Args:
        readers: pages open at once.
        blocks: of each kind.
        commits: candidates of a block.
        search: takes the ledger, the budget and a listener to its progress.
    """
    pages: list[Pages] = []
    with contextlib.ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ledger.db"

        def note(progress: Progress) -> None:
            if pages and progress.done:
                pages[0].written()
            elif progress.done:  # the first result: everything is set up
                pages.append(stack.enter_context(Pages(path, readers, commits, "search")))

        search(stack.enter_context(Ledger(path)), 2 * blocks * commits + 1, note)
    return pages[0].rows


def slowdown(rows: list[dict[str, object]], column: str = "write_ms_mean") -> float:
    """Returns by what share readers slow the writer: the median over pairs of neighbouring blocks.

    Args:
        rows: of `Pages`, of one writer.
        column: wall time, or the CPU time of the writer alone, which other work on the machine hardly touches.
    """
    times = [float(str(row[column])) for row in rows]
    return statistics.median(reading / alone for alone, reading in zip(times[::2], times[1::2], strict=True)) - 1
