import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import optuna
import pytest
import yaml

from nas.errors import InputError, RunError
from nas.evaluators.base import Evaluator
from nas.objectives import Constraint
from nas.progress import Progress
from nas.search import loop, stop_rules
from nas.search.executors.base import Job, Outcome
from nas.search.executors.serial import SerialExecutor
from nas.search.records import Candidate
from nas.search.samplers import SeededSampler
from nas.search.study import SearchStudy, Told
from nas.search.tracker import SearchProgress
from search_spaces.architecture import Architecture
from search_spaces.space import load_space
from tests.nas.search.small import Small, accuracy, evaluations


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


@dataclass(frozen=True)
class Answers(Evaluator):
    """Returns what a function says, which gets the architecture and how often it was asked about."""

    answer: Callable[[Architecture, int], dict[str, float]]
    asked: dict[str, int] = field(default_factory=dict)

    def setup(self) -> None: ...

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        self.asked[architecture.key] = self.asked.get(architecture.key, 0) + 1
        return self.answer(architecture, self.asked[architecture.key])


def good(architecture: Architecture, _: int = 1) -> dict[str, float]:
    return {"accuracy": accuracy(architecture)}


def small_space(folder: Path, kernels: list[int]) -> str:
    stages = [{"channels": [4, 8], "depth": [1, 2], "kernel": kernels}]
    table = {"format": 1, "name": "small", "resolution": 8, "image_channels": 1, "stem": {"channels": 4}}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(table | {"classes": 10, "stages": stages}))
    return str(path)


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe", "hypervolume"])
def test_every_sampler_searches_a_space_that_keys_its_only_resolution(tmp_path: Path, sampler: str) -> None:
    table = load_space("tiny").table.model_copy(update={"resolution": (8,), "keyed_resolution": True})
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(table.model_dump(mode="json")))
    small = Small(tmp_path, sampler=sampler, budget=16, space=str(file))
    assert small.run().evaluated == 16
    with small.ledger() as ledger:
        assert {candidate.architecture["resolution"] for candidate in ledger.candidates()} == {8}
    assert small.with_budget(20).run().evaluated == 20


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe"])
def test_the_same_seed_gives_the_same_candidates_and_another_seed_others(tmp_path: Path, sampler: str) -> None:
    runs = []
    for number, seed in enumerate((1, 1, 2)):
        small = Small(tmp_path / str(number), sampler=sampler, seed=seed, budget=20)
        small.folder.mkdir()
        outcome = small.run()
        assert (outcome.kind, outcome.evaluated) == ("budget", 20)
        assert max(evaluations(small.folder).values()) == 1
        runs.append(small.candidates())
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe"])
def test_a_larger_budget_extends_a_finished_search_as_if_it_had_been_larger_from_the_start(
    tmp_path: Path, sampler: str
) -> None:
    whole, parts = (Small(tmp_path / name, sampler=sampler, budget=30, population=7) for name in ("whole", "parts"))
    whole.folder.mkdir()
    parts.folder.mkdir()
    whole.run()
    for budget in (1, 11, 12, 30, 30):
        parts.with_budget(budget).run()
        assert sum(state == "done" for _, state in parts.candidates()) == budget
    assert parts.candidates() == whole.candidates()
    assert evaluations(parts.folder) == evaluations(whole.folder)


def test_a_finished_search_starts_no_executor(small: Small) -> None:
    small.run()

    class Unstartable(SerialExecutor):
        def start(self, evaluator: Evaluator) -> None:
            raise AssertionError("nothing is left to evaluate")

    assert small.run(executor=Unstartable()).evaluated == small.budget


def test_nsga2_and_tpe_find_a_better_front_than_random_search(tmp_path: Path) -> None:
    sizes = {}
    for sampler in ("random", "nsga2", "tpe"):
        last: list[Progress] = []
        small = Small(tmp_path / sampler, sampler=sampler, budget=60, population=12)
        small.folder.mkdir()
        small.run(listener=last.append)
        assert isinstance(last[-1], SearchProgress)
        sizes[sampler] = last[-1].best["macs"]
    assert max(sizes["nsga2"], sizes["tpe"]) < sizes["random"]


def test_a_space_that_is_known_completely_ends_the_search(tmp_path: Path) -> None:
    small = Small(tmp_path, space=small_space(tmp_path, [3]), budget=1000)
    outcome = small.run()
    size = load_space(small.space).size
    assert (outcome.kind, outcome.evaluated) == ("space exhausted", size)
    assert outcome.reason == f"all {size} architectures of the space are known"
    assert outcome.proposals > size, "repeated proposals are answered from the ledger"
    assert set(evaluations(tmp_path).values()) == {1}


def test_a_sampler_that_only_repeats_itself_ends_the_search(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_rules, "MAX_BARREN_PROPOSALS", 20)

    def stuck(*_: object) -> SeededSampler:
        return lambda _: optuna.samplers.RandomSampler(seed=0)

    monkeypatch.setattr(loop, "get_sampler", stuck)
    outcome = small.run()
    assert (outcome.kind, outcome.evaluated, outcome.proposals) == ("nothing new", 1, 21)
    assert outcome.reason == "the last 20 proposals were known architectures"


def test_what_breaks_a_cost_constraint_is_recorded_but_neither_evaluated_nor_paid_for(tmp_path: Path) -> None:
    small = Small(tmp_path, constraints=("parameters <= 15000",), budget=25)
    outcome = small.run()
    with small.ledger() as ledger:
        candidates = ledger.candidates()
    infeasible = {c.architecture.key for c in candidates if c.costs["parameters"].value > 15000}
    assert infeasible == {c.architecture.key for c in candidates if c.state == "infeasible"}
    assert len(infeasible) == outcome.infeasible > 0
    assert outcome.evaluated == 25
    assert not infeasible & evaluations(tmp_path).keys()


def test_a_constraint_steers_nsga2_away_from_what_breaks_it(tmp_path: Path) -> None:
    shares = {}
    for sampler in ("random", "nsga2"):
        small = Small(tmp_path / sampler, sampler=sampler, constraints=("parameters <= 12000",), budget=30)
        small.folder.mkdir()
        outcome = small.run()
        shares[sampler] = outcome.infeasible / (outcome.infeasible + outcome.evaluated)
    assert shares["nsga2"] < shares["random"]


def test_bounds_that_nothing_keeps_end_the_search_in_words(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_rules, "MAX_BARREN_PROPOSALS", 30)
    outcome = Small(small.folder, constraints=("macs <= 1",)).run()
    assert (outcome.kind, outcome.evaluated) == ("nothing new", 0)
    assert re.search(r"break macs <= 1; of \d+ distinct ones none is allowed: widen the bounds", outcome.reason)
    assert not evaluations(small.folder)


def test_a_bound_on_accuracy_is_judged_after_the_evaluation(tmp_path: Path) -> None:
    told: list[Told] = []
    small = Small(tmp_path, constraints=("accuracy >= 0.85",), budget=15)
    events: list[Progress] = []
    with pytest.MonkeyPatch.context() as patch:
        tell = SearchStudy.tell
        patch.setattr(SearchStudy, "tell", lambda self, number, what: (told.append(what), tell(self, number, what))[1])
        small.run(listener=events.append)
    with small.ledger() as ledger:
        accuracies = [candidate.metrics["accuracy"] for candidate in ledger.candidates()]
    assert 0 < sum(value >= 0.85 for value in accuracies) < 15
    assert isinstance(events[-1], SearchProgress)
    assert events[-1].feasible_share == sum(value >= 0.85 for value in accuracies) / 15
    assert any(violation > 0 for what in told for violation in what.violations.values())


def test_an_evaluation_that_fails_twice_and_then_succeeds_counts_once(small: Small) -> None:
    def shaky(architecture: Architecture, time: int) -> dict[str, float]:
        if time < 3:
            raise TimeoutError(f"try {time}")
        return good(architecture)

    outcome = small.with_budget(4).run(evaluator=Answers(shaky))
    assert (outcome.evaluated, outcome.failed) == (4, 0)
    with small.ledger() as ledger:
        endings = [(attempt.ending, attempt.error_class, attempt.error_text) for attempt in ledger.attempts()]
    assert endings[:3] == [
        ("failed", "TimeoutError", "try 1"),
        ("failed", "TimeoutError", "try 2"),
        ("done", None, None),
    ]


@pytest.mark.parametrize(
    ("answer", "error_class", "text"),
    [
        ({"accuracy": float("nan")}, "NotFinite", "accuracy must be a finite number, got nan"),
        ({"accuracy": float("-inf")}, "NotFinite", "accuracy must be a finite number, got -inf"),
        ({"accuracy": "0.5"}, "NotFinite", "accuracy must be a finite number, got '0.5'"),
        ({"accuracy": 55.0}, "OutOfRange", "accuracy must be between 0 and 1, got 55.0"),
        ({"loss": 0.1}, "MissingMetric", "the evaluator returned no accuracy"),
        (None, "TypeError", "'NoneType' object is not iterable"),
    ],
)
def test_what_is_no_accuracy_is_a_failure(small: Small, answer: dict[str, float], error_class: str, text: str) -> None:
    bad: list[str] = []

    def answers(architecture: Architecture, _: int) -> dict[str, float]:
        if not bad:
            bad.append(architecture.key)
        return answer if architecture.key in bad else good(architecture)

    outcome = small.with_budget(3).run(evaluator=Answers(answers))
    assert (outcome.evaluated, outcome.failed) == (3, 1)
    with small.ledger() as ledger:
        failed = [attempt for attempt in ledger.attempts() if attempt.ending == "failed"]
        assert ledger.candidates()[0].state == "failed"
    assert [(attempt.candidate, attempt.error_class, attempt.error_text) for attempt in failed] == [
        (0, error_class, text)
    ] * 3


def test_an_evaluator_that_never_works_ends_the_search_with_its_words(small: Small) -> None:
    def broken(architecture: Architecture, _: int) -> dict[str, float]:
        raise FileNotFoundError("supernet.safetensors")

    with pytest.raises(RunError, match=r"5 candidates in a row .*FileNotFoundError: supernet\.safetensors; nothing is"):
        small.run(evaluator=Answers(broken))
    with small.ledger() as ledger:
        assert len(ledger.attempts()) == 15
        assert {attempt.ending for attempt in ledger.attempts()} == {"failed"}


def test_an_evaluator_that_cannot_be_set_up_ends_the_search(small: Small) -> None:
    class Unready(Evaluator):
        def setup(self) -> None:
            raise RunError("there is no supernet here: train it first")

        def evaluate(self, architecture: Architecture) -> dict[str, float]:
            return {}

    with pytest.raises(RunError, match="there is no supernet here"):
        small.run(evaluator=Unready())
    assert small.run().evaluated == small.budget, "and the next start goes on"


def test_failed_candidates_stay_failed_in_the_next_start(small: Small) -> None:
    fails = Small(small.folder, fails_for="0123", budget=10)
    fails.run()
    before = evaluations(small.folder)
    failed = [key for key, state in fails.candidates() if state == "failed"]
    assert failed
    assert all(before[key] == 3 for key in failed)
    fails.with_budget(14).run()
    assert all(evaluations(small.folder)[key] == 3 for key in failed)


def test_several_objectives_and_devices_are_searched_together(tmp_path: Path) -> None:
    objectives = ("accuracy", "macs", "weight_bytes@cpu", "peak_activation_bytes@cpu")
    events: list[Progress] = []
    assert Small(tmp_path, objectives=objectives, budget=20).run(listener=events.append).evaluated == 20
    assert isinstance(events[-1], SearchProgress)
    assert set(events[-1].best) == set(objectives)


def test_progress_tells_counts_best_values_and_whether_the_front_moved(tmp_path: Path) -> None:
    events: list[Progress] = []
    small = Small(tmp_path, budget=20, constraints=("parameters <= 20000",), fails_for="0")
    small.run(listener=events.append)
    assert all(isinstance(event, SearchProgress) for event in events)
    last = events[-1]
    assert isinstance(last, SearchProgress)
    assert (events[0].done, last.done, last.total) == (0, 20, 20)
    with small.ledger() as ledger:
        candidates = ledger.candidates()
    done = [candidate for candidate in candidates if candidate.state == "done"]
    assert last.best["accuracy"] == max(candidate.metrics["accuracy"] for candidate in done)
    assert last.best["macs"] == min(candidate.costs["macs"].value for candidate in done)
    judged = [candidate for candidate in candidates if candidate.state != "failed"]
    assert last.feasible_share == len(done) / len(judged) < 1
    assert last.failed == len(candidates) - len(judged)
    assert last.front_size == brute_force_front(done)
    assert last.text.startswith("best accuracy 0.") or last.text.startswith("best macs")
    for earlier, later in pairwise(events):
        assert isinstance(earlier, SearchProgress)
        assert isinstance(later, SearchProgress)
        assert later.notable or later.best == earlier.best


def brute_force_front(candidates: list[Candidate]) -> int:
    points = [(-candidate.metrics["accuracy"], candidate.costs["macs"].value) for candidate in candidates]
    return sum(not any(a <= c and b <= d and (a, b) != (c, d) for a, b in points) for c, d in points)


def test_a_stop_from_outside_ends_after_the_running_evaluation_and_the_next_start_goes_on(small: Small) -> None:
    stop = threading.Event()

    def stopping(architecture: Architecture, _: int) -> dict[str, float]:
        if len(evaluator.asked) == 5:
            stop.set()
        return good(architecture)

    evaluator = Answers(stopping)
    outcome = small.run(evaluator=evaluator, stop=stop)
    assert (outcome.kind, outcome.evaluated) == ("stopped", 5)
    with small.ledger() as ledger:
        assert {attempt.ending for attempt in ledger.attempts()} == {"done"}
    assert small.run().evaluated == small.budget


def test_a_search_runs_outside_the_main_thread_too(small: Small) -> None:
    outcomes: list[loop.SearchOutcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(small.run()))
    thread.start()
    thread.join(60)
    assert outcomes[0].evaluated == small.budget


def test_another_seed_or_bound_is_refused_for_the_same_ledger(small: Small) -> None:
    small.run()
    with pytest.raises(InputError, match=re.escape("another seed (then 0, now 1): restore seed")):
        Small(small.folder, seed=1).run()
    bound = Constraint.parse("macs <= 1e6").text
    with pytest.raises(InputError, match=re.escape(f"another constraints (then none, now {bound})")):
        Small(small.folder, constraints=("macs <= 1e6",)).run()


class TwoAtOnce(SerialExecutor):
    """Runs two evaluations at once as far as the loop can see, and answers the later one first."""

    capacity = 2

    def wait(self, timeout_s: float) -> list[Outcome]:
        self._jobs.rotate(1)
        return super().wait(timeout_s)

    def submit(self, job: Job) -> None:
        super().submit(job)
        assert len(self._jobs) <= 2, "no more than the capacity"


def test_a_proposal_of_an_architecture_that_is_running_waits_for_it(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_rules, "MAX_BARREN_PROPOSALS", 10)

    def pairs(*_: object) -> SeededSampler:
        seeds = iter(number // 2 for number in range(1000))
        return lambda _: optuna.samplers.RandomSampler(seed=next(seeds))

    monkeypatch.setattr(loop, "get_sampler", pairs)
    outcome = small.run(executor=TwoAtOnce())
    assert (outcome.kind, outcome.evaluated) == ("budget", 12)
    assert outcome.proposals in {23, 24}
    assert set(evaluations(small.folder).values()) == {1}


def test_the_budget_is_met_exactly_with_several_workers(tmp_path: Path) -> None:
    small = Small(tmp_path, budget=7, fails_for="01234")
    outcome = small.run(executor=TwoAtOnce())
    assert outcome.evaluated == 7
    assert outcome.failed > 0


def test_a_worker_that_dies_with_one_candidate_again_and_again_gives_that_candidate_up(small: Small) -> None:
    from nas.search.executors.base import Failure

    class Deadly(SerialExecutor):
        first: str = ""

        def wait(self, timeout_s: float) -> list[Outcome]:
            job = self._jobs[0]
            self.first = self.first or job.architecture.key
            if job.architecture.key != self.first:
                return super().wait(timeout_s)
            self._jobs.popleft()
            return [Outcome(job, "host:1", failure=Failure("lost", "ActorDiedError", "out of memory"))]

    outcome = small.run(executor=Deadly())
    assert (outcome.evaluated, outcome.failed) == (small.budget, 1)
    with small.ledger() as ledger:
        assert ledger.count_endings(0) == {"lost": 5}


def test_nothing_is_told_before_it_is_in_the_ledger(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    tell = SearchStudy.tell
    checked: list[int] = []

    def checking(self: SearchStudy, number: int, told: Told) -> None:
        with small.ledger() as ledger:
            done = [candidate.metrics["accuracy"] for candidate in ledger.candidates() if candidate.state == "done"]
        assert told.values is not None
        assert told.values[0] in done
        checked.append(number)
        tell(self, number, told)

    monkeypatch.setattr(SearchStudy, "tell", checking)
    small.run()
    assert len(checked) >= small.budget
    assert os.path.exists(small.folder / "ledger.db")
