from pathlib import Path

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from scipy.stats import binomtest

from nas.evaluators.base import Evaluator
from nas.pareto import non_dominated
from nas.search import loop
from nas.search.mirror import Mirror
from nas.search.results import evaluated, wilson_interval
from nas.search.samplers.base import SeededSampler
from nas.search.tracker import SearchProgress
from search_spaces.architecture import Architecture
from tests.nas.search.small import Small, accuracy


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (3, 10), (10, 10), (355, 360), (9_000, 10_000)])
def test_the_interval_is_that_of_scipy(successes: int, count: int) -> None:
    reference = binomtest(successes, count).proportion_ci(0.95, "wilson")
    assert wilson_interval(successes / count, count) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_results_tell_where_each_value_comes_from(tmp_path: Path) -> None:
    small = Small(tmp_path, budget=5, constraints=("parameters <= 1e9",))
    small.run(validation_images=200)
    with small.ledger() as ledger:
        results = evaluated(ledger)
    assert [result.number for result in results] == list(range(5))
    for result in results:
        assert {name: value.source for name, value in result.values.items()} == {
            "accuracy": "measured",
            "macs": "analytic",
            "parameters": "analytic",
        }
        found = result.values["accuracy"]
        assert found.value == accuracy(result.architecture)
        assert (found.lower, found.upper) == wilson_interval(found.value, 200)


def test_without_a_number_of_images_accuracy_has_no_interval(tmp_path: Path) -> None:
    small = Small(tmp_path, budget=2)
    small.run()
    with small.ledger() as ledger:
        assert all(result.values["accuracy"].lower is None for result in evaluated(ledger))


def test_a_perfect_accuracy_lies_in_its_interval(tmp_path: Path) -> None:
    class Perfect(Evaluator):
        def setup(self) -> None: ...

        def evaluate(self, architecture: Architecture) -> dict[str, float]:
            return {"accuracy": float(architecture == architecture)}

    small = Small(tmp_path, budget=1)
    small.run(evaluator=Perfect(), validation_images=7)
    with small.ledger() as ledger:
        (result,) = evaluated(ledger)
    assert result.values["accuracy"].upper == 1.0


class StoppedEarly(Evaluator):
    """The best of all, had half of them not been stopped after two of four epochs."""

    def setup(self) -> None: ...

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        epochs = 2.0 if int(architecture.key[-1], 16) % 2 else 4.0
        found = accuracy(architecture)
        return {"accuracy": found + (epochs == 2.0) * (1 - found), "epochs": epochs, "full_epochs": 4.0}


@pytest.mark.parametrize("sampler", ["hypervolume", "nsga2", "random", "tpe"])
def test_what_was_stopped_early_is_kept_and_counted_but_compared_with_nothing(tmp_path: Path, sampler: str) -> None:
    small = Small(tmp_path, sampler=sampler, budget=12)
    heard: list[SearchProgress] = []
    small.run(evaluator=StoppedEarly(), listener=lambda p: heard.append(p) if isinstance(p, SearchProgress) else None)
    with small.ledger() as ledger:
        results, candidates = evaluated(ledger), ledger.candidates()
        mirror = f"sqlite:///{tmp_path}/optuna.db"
        assert Mirror(mirror, "search", small.problem).update(ledger) == 12
        assert Mirror(mirror, "search", small.problem).update(ledger) == 0
    states = {trial.number: trial.state.name for trial in optuna.load_study(study_name="search", storage=mirror).trials}
    stopped = {candidate.number for candidate in candidates if candidate.metrics["epochs"] == 2.0}
    assert 0 < len(stopped) < len(candidates) == 12
    assert {result.number for result in results} == set(range(12)) - stopped
    assert states == {number: "PRUNED" if number in stopped else "COMPLETE" for number in range(12)}
    assert all(set(result.values) == {"accuracy", "macs"} for result in results)
    last = heard[-1]
    assert last.done == 12
    assert last.best["accuracy"] == max(result.values["accuracy"].value for result in results) < 1
    assert f"{len(stopped)} stopped early" in last.text
    losses = [(-result.values["accuracy"].value, result.values["macs"].value) for result in results]
    assert last.front_size == len({loss for loss, keep in zip(losses, non_dominated(losses), strict=True) if keep})
    assert last.worst == (max(a for a, _ in losses), max(b for _, b in losses))


class Watching(optuna.samplers.RandomSampler):
    """Proposes at random and keeps what it could have known."""

    known: list[FrozenTrial]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        Watching.known = study.get_trials(states=[state for state in optuna.trial.TrialState if state.is_finished()])
        return {}


def test_the_sampler_hears_no_accuracy_of_what_was_stopped_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watching(*_: object) -> SeededSampler:
        return Watching

    monkeypatch.setattr(loop, "get_sampler", watching)
    small = Small(tmp_path, budget=8, constraints=("macs <= 1e12", "accuracy >= 0.1"))
    small.run(evaluator=StoppedEarly())
    heard = Watching.known
    Watching.known = []
    small.with_budget(9).run(evaluator=StoppedEarly())
    with small.ledger() as ledger:
        candidates = {c.number: c for c in ledger.candidates()}
        ledger_says = [candidates[proposal.candidate] for proposal in ledger.proposals()]
    assert len(heard) < len(Watching.known), "told by this start, and restored by the next"
    for trials in (heard, Watching.known):
        assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
        for trial in trials:
            metrics = ledger_says[trial.number].metrics
            stopped = metrics["epochs"] == 2.0
            assert trial.state.name == ("PRUNED" if stopped else "COMPLETE")
            assert trial.values is None if stopped else trial.values[0] == metrics["accuracy"]
            assert len(trial.constraints) == (1 if stopped else 2), "a bound on accuracy is not judged either"
