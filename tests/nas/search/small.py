"""A small real search for the tests: the tiny space, exact costs, an evaluator that writes down what it evaluates."""

import contextlib
import hashlib
import logging
import math
import multiprocessing
import os
import resource
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from nas.config import RayConfig, SearchConfig
from nas.errors import RunError
from nas.evaluators.base import Evaluator
from nas.evaluators.costs import AnalyticAndPredictedCosts
from nas.front import Front
from nas.objectives import Constraint, Objective
from nas.progress import ProgressListener, silent
from nas.search.database import PostgresSchema
from nas.search.executors.base import Executor, Outcome
from nas.search.executors.serial import SerialExecutor
from nas.search.ledger import Ledger
from nas.search.loop import SearchOutcome, run_search
from nas.search.problem import SearchProblem
from nas.search.results import evaluated
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace, load_space

LOG = "evaluations.log"
HOLD = "hold"
ERROR = "error.txt"


@dataclass(frozen=True)
class LoggingEvaluator(Evaluator):
    """Accuracy from the architecture alone; a line for every evaluation that ends.

    Attributes:
        folder: of the log; several processes append to it at once.
        seconds: that an evaluation takes; it does not end while there is a file named as `HOLD`.
        fails_for: an evaluation raises where the key's last hexadecimal digit is one of these.
        kills_for: it kills its own process there, but only the first time.
    """

    folder: Path
    seconds: float = 0.0
    fails_for: str = ""
    kills_for: str = ""

    def setup(self) -> None:
        append(self.folder / "setups.log", str(os.getpid()))

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        time.sleep(self.seconds)
        while (self.folder / HOLD).exists():
            time.sleep(0.01)
        last = architecture.key[-1]
        if last in self.kills_for and architecture.key not in lines(self.folder / "killed.log"):
            append(self.folder / "killed.log", architecture.key)
            os.kill(os.getpid(), signal.SIGKILL)
        append(self.folder / LOG, architecture.key)
        if last in self.fails_for:
            raise ArithmeticError(f"{architecture.key} cannot be evaluated")
        return {"accuracy": accuracy(architecture)}


def accuracy(architecture: Architecture) -> float:
    """More of everything is better, plus noise that is the architecture's own."""
    capacity = sum(float(value) for _, value in architecture.values)
    return 0.9 * (1 - math.exp(-capacity / 60)) + 0.1 * int(architecture.key[-6:], 16) / 16**6


def append(path: Path, line: str) -> None:
    with path.open("ab", buffering=0) as file:  # O_APPEND: a line is one write, whole or not there
        file.write(f"{line}\n".encode())


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def evaluations(folder: Path) -> Counter[str]:
    """How often each architecture was evaluated, by key."""
    return Counter(lines(folder / LOG))


@dataclass(frozen=True)
class Small:
    """Settings of a small search in a folder."""

    folder: Path
    sampler: str = "nsga2"
    budget: int = 12
    seed: int = 0
    population: int = 6
    objectives: tuple[str, ...] = ("accuracy", "macs")
    constraints: tuple[str, ...] = ()
    seconds: float = 0.0
    fails_for: str = ""
    kills_for: str = ""
    ray: bool = False
    temporary: Path | None = None
    retry_seconds: float = 0.0
    max_minutes: float | None = None
    min_gain: float | None = None
    warm_start: tuple[str, ...] = ()
    answers: int = 1
    log_folder: Path | None = None
    url: str | None = None
    space: str = "tiny"

    @property
    def problem(self) -> SearchProblem:
        return SearchProblem(
            load_space(self.space),
            tuple(map(Objective.parse, self.objectives)),
            tuple(map(Constraint.parse, self.constraints)),
        )

    @property
    def evaluator(self) -> LoggingEvaluator:
        return LoggingEvaluator(self.log_folder or self.folder, self.seconds, self.fails_for, self.kills_for)

    def ledger(self, fault: Callable[[str], None] | None = None) -> Ledger:
        place = self.folder / "ledger.db" if self.url is None else PostgresSchema(self.url, self.folder.name)
        return Ledger(place, **({"fault": fault} if fault else {}))

    def executor(self) -> Executor:
        return ray_executor() if self.ray else SerialExecutor() if self.answers == 1 else Repeating(self.answers)

    def run(
        self,
        *,
        evaluator: Evaluator | None = None,
        executor: Executor | None = None,
        fault: Callable[[str], None] | None = None,
        listener: ProgressListener = silent,
        **options: object,
    ) -> SearchOutcome:
        problem = self.problem
        bounded = [constraint.objective for constraint in problem.constraints]
        with self.ledger(fault) as ledger:
            return run_search(
                problem,
                evaluator=evaluator or self.evaluator,
                costs=counts(problem.space, (*problem.objectives, *bounded)),
                executor=executor or self.executor(),
                ledger=ledger,
                config=SearchConfig(
                    sampler=self.sampler,
                    budget=self.budget,
                    population=self.population,
                    retry_seconds=self.retry_seconds,
                    max_minutes=self.max_minutes,
                    min_gain=self.min_gain,
                    warm_start=self.warm_start,
                ),
                seed=self.seed,
                listener=listener,
                **options,
            )

    def candidates(self) -> list[tuple[str, str]]:
        """Key and state of every candidate, by number."""
        with self.ledger() as ledger:
            return [(candidate.architecture.key, candidate.state) for candidate in ledger.candidates()]

    def front(self) -> str:
        """SHA-256 of the front as the product writes it."""
        problem = self.problem
        with self.ledger() as ledger:
            found = [(item.architecture, item.values) for item in evaluated(ledger)]
        Front.of("small", problem.objectives, problem.constraints, found).save(self.folder / "front.json")
        return hashlib.sha256((self.folder / "front.json").read_bytes()).hexdigest()

    def with_budget(self, budget: int) -> "Small":
        return replace(self, budget=budget)


class Repeating(SerialExecutor):
    """Returns every outcome several times, as a network that repeats messages would."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    def wait(self, timeout_s: float) -> list[Outcome]:
        return super().wait(timeout_s) * self._times


def counts(space: SearchSpace, objectives: tuple[Objective, ...]) -> AnalyticAndPredictedCosts:
    return AnalyticAndPredictedCosts(space, objectives, precisions={"cpu": "fp32"}, predictors={})


def ray_executor(workers: int = 2) -> Executor:
    from nas.search.executors.ray_actors import RayExecutor

    return RayExecutor(RayConfig(executor="ray", workers=workers))


# Children come from a server that has imported the search but runs nothing: forking pytest itself, with the threads
# that Ray leaves in it, is not safe, and a new interpreter for each child is slow.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["tests.nas.search.small"])


def child(target: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
    """Starts a function in a process of its own."""
    process = CHILDREN.Process(target=_run, args=(target, *arguments))
    process.start()
    return process


def _run(target: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    target(*arguments)


def _end_with_the_tests() -> None:
    tests = multiprocessing.parent_process()
    assert tests is not None
    tests.join()
    os.kill(os.getpid(), signal.SIGKILL)


def search_in_child(small: Small, die_at: int | None = None, file_bytes: int | None = None) -> None:
    """Runs the search; exit status 1 and a file with the sentence where it cannot go on.

    With ``die_at``, it SIGKILLs itself at that passage of a fault point, counted from 0; with ``file_bytes``, no file
    may become longer.
    """
    logging.disable(logging.WARNING)
    tempfile.tempdir = None if small.temporary is None else str(small.temporary)
    passed = 0

    def fault(_: str) -> None:
        nonlocal passed
        if passed == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    if file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    try:
        small.run(fault=fault)
    except RunError as error:
        small.evaluator.folder.joinpath(ERROR).write_text(str(error))
        raise SystemExit(1) from None


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        with contextlib.suppress(OSError):
            time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended; one that ended stays in the table until its parent asks for it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
