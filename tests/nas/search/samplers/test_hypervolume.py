from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from nas.pareto import hypervolume
from nas.search.samplers.hypervolume import HypervolumeSampler
from nas.search.samplers.knowledge import CostTerms, Knowledge
from nas.search.samplers.proposal import Effort

Floats = NDArray[np.float64]
Params = Mapping[str, Any]

QUICK = Effort(population=24, spreading=3, climbing=2)
SPACE: dict[str, BaseDistribution] = {f"width{place}": CategoricalDistribution((1, 2, 4, 8)) for place in range(6)}


def error(params: Params) -> float:
    """Falls with the total width; the first two widths should be equal and the last small."""
    widths = np.array([params[name] for name in SPACE])
    uneven = abs(np.log2(widths[0] / widths[1])) + np.log2(widths[-1])
    return float(10 / np.sqrt(widths.sum()) + 0.3 * uneven)


def cost(params: Params) -> float:
    return float(sum(params[name] for name in SPACE))


def told_costs(many: Sequence[Params]) -> Floats:
    return np.array([[cost(params)] for params in many], dtype=np.float64)


def log_cost(many: Sequence[Params]) -> Floats:
    return np.log([[cost(params)] for params in many])


KNOWN = Knowledge(costs=CostTerms((1,), told_costs), features=log_cost)


def make(**changes: Any) -> HypervolumeSampler:
    return HypervolumeSampler(**({"seed": 0, "search_space": SPACE, "knowledge": KNOWN, "effort": QUICK} | changes))


def search(sampler: optuna.samplers.BaseSampler, trials: int, batch: int = 1) -> optuna.Study:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    while len(study.trials) < trials:
        for trial in [study.ask(dict(SPACE)) for _ in range(batch)]:
            study.tell(trial, [error(trial.params), cost(trial.params)])
    return study


def volume(study: optuna.Study) -> float:
    return hypervolume([trial.values for trial in study.trials], [8.0, 48.0])


def proposals(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [tuple(trial.params[name] for name in SPACE) for trial in study.trials]


def test_it_finds_a_larger_hypervolume_than_random_search_with_a_quarter_of_the_evaluations() -> None:
    for seed in range(2):
        ours = volume(search(make(seed=seed), 30))
        random = volume(search(optuna.samplers.RandomSampler(seed=seed), 120))
        assert ours > random


def test_proposals_never_repeat_and_lie_inside_the_space() -> None:
    study = search(make(), 25)
    assert len(set(proposals(study))) == 25
    assert all(value in (1, 2, 4, 8) for row in proposals(study) for value in row)


def test_the_same_seed_proposes_the_same_and_another_seed_does_not() -> None:
    first, again, other = (proposals(search(make(seed=seed), 18)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_study_that_is_rebuilt_goes_on_as_the_one_before() -> None:
    whole = search(make(), 20)
    rebuilt = optuna.create_study(directions=["minimize", "minimize"], sampler=make())
    rebuilt.add_trials(whole.trials[:15])
    for _ in range(5):
        trial = rebuilt.ask(dict(SPACE))
        rebuilt.tell(trial, [error(trial.params), cost(trial.params)])
    assert proposals(rebuilt) == proposals(whole)


def test_a_batch_of_pending_trials_is_all_different_and_costs_little_hypervolume() -> None:
    batches = search(make(), 32, batch=8)
    assert len(set(proposals(batches))) == 32
    assert volume(batches) > 0.97 * volume(search(make(), 32))


def test_pending_trials_change_the_next_proposal() -> None:
    study = search(make(), 15)
    first, second = study.ask(dict(SPACE)), study.ask(dict(SPACE))
    assert first.params != second.params


def test_a_failed_trial_is_not_proposed_again() -> None:
    study = search(make(), 14)
    failed = []
    for _ in range(4):
        trial = study.ask(dict(SPACE))
        study.tell(trial, state=TrialState.FAIL)
        failed.append(tuple(trial.params.values()))
    assert len(set(failed)) == 4


def test_known_constraints_are_respected_from_the_first_trial_on() -> None:
    def violations(many: Sequence[Params]) -> dict[str, Floats]:
        return {"cost <= 20": np.array([cost(params) - 20 for params in many])}

    knowledge = Knowledge(costs=KNOWN.costs, features=log_cost, violations=violations)
    study = search(make(knowledge=knowledge), 25)
    assert max(trial.values[1] for trial in study.trials) <= 20


def test_values_told_for_a_trial_that_breaks_a_known_constraint_are_ignored() -> None:
    def violations(many: Sequence[Params]) -> dict[str, Floats]:
        return {"cost <= 20": np.array([cost(params) - 20 for params in many])}

    def propose(told: float) -> Params:
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        study.add_trials(search(make(knowledge=knowledge), 14).trials)
        big = dict.fromkeys(SPACE, 8)
        study.add_trial(
            optuna.trial.create_trial(
                params=big, distributions=dict(SPACE), values=[told, 48.0], constraints={"cost <= 20": 28.0}
            )
        )
        return study.ask(dict(SPACE)).params

    knowledge = Knowledge(costs=KNOWN.costs, features=log_cost, violations=violations)
    sampler = make(knowledge=knowledge)
    assert propose(0.0) == propose(9.0)


def test_a_constraint_that_only_evaluations_tell_is_learned() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=make())
    for _ in range(45):
        trial = study.ask(dict(SPACE))
        trial.set_constraint("first width", trial.params["width0"] - 4.5)  # 8 is not allowed
        study.tell(trial, [error(trial.params), cost(trial.params)])
    late = [trial.params["width0"] for trial in study.trials[25:]]
    assert late.count(8) <= 3  # of 20; five by chance


def test_maximised_and_minimised_objectives_give_the_same_search() -> None:
    def flipped(sampler: HypervolumeSampler) -> list[tuple[Any, ...]]:
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        for _ in range(20):
            trial = study.ask(dict(SPACE))
            study.tell(trial, [-error(trial.params), cost(trial.params)])
        return proposals(study)

    assert flipped(make()) == proposals(search(make(), 20))


def test_three_objectives_with_two_known_costs_work() -> None:
    def costs(many: Sequence[Params]) -> Floats:
        return np.array([[cost(params), params["width0"] * params["width1"]] for params in many])

    sampler = make(knowledge=Knowledge(costs=CostTerms((0, 2), costs)))
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
    for _ in range(24):
        trial = study.ask(dict(SPACE))
        one, two = costs([trial.params])[0]
        study.tell(trial, [one, error(trial.params), two])
    assert len(set(proposals(study))) == 24
    reference = [48.0, 8.0, 64.0]
    found = hypervolume([trial.values for trial in study.trials], reference)
    random = search(optuna.samplers.RandomSampler(seed=0), 24)
    others = [[t.values[1], t.values[0], t.params["width0"] * t.params["width1"]] for t in random.trials]
    assert found > hypervolume(others, reference)


def test_a_cost_that_is_measured_on_evaluation_corrects_the_predicted_one() -> None:
    def wrong(many: Sequence[Params]) -> Floats:
        return np.array([[cost(params) * (0.5 if params["width2"] == 8 else 1.0)] for params in many])

    study = search(make(knowledge=Knowledge(costs=CostTerms((1,), wrong), features=log_cost)), 40)
    assert volume(study) > volume(search(optuna.samplers.RandomSampler(seed=0), 120))


def test_it_works_without_any_knowledge_through_plain_optimize() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=HypervolumeSampler(seed=1, effort=QUICK))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0.01, 1.0, log=True)
        n = trial.suggest_int("n", 1, 10)
        activation = trial.suggest_categorical("activation", ["relu", "silu", "gelu"])
        deep = trial.suggest_float("deep", 0, 1) if n > 5 else 0.0
        trial.suggest_int("fixed", 3, 3)
        return (x - 0.1) ** 2 + n + deep, 1 / n + (activation == "relu")

    study.optimize(objective, n_trials=25)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert len({(t.params["x"], t.params["n"], t.params["activation"]) for t in study.trials}) == 25
    assert {"silu", "gelu"} & {trial.params["activation"] for trial in study.best_trials}


def test_switched_off_parameters_do_not_make_a_network_new() -> None:
    space: dict[str, BaseDistribution] = {
        "depth": IntDistribution(1, 3),
        **{f"kernel{block}": CategoricalDistribution((3, 5)) for block in (1, 2, 3)},
    }  # 2 + 4 + 8 networks

    def canonical(params: Params) -> Params:
        return {name: v for name, v in params.items() if name == "depth" or int(name[-1]) <= params["depth"]}

    needs = {"kernel2": [("depth", (2, 3))], "kernel3": [("depth", (3,))]}
    sampler = HypervolumeSampler(seed=0, search_space=space, knowledge=Knowledge(needs=needs), effort=QUICK)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for _ in range(14):
        trial = study.ask(dict(space))
        active = canonical(trial.params)
        study.tell(trial, [1 / sum(active.values()), float(active["depth"])])
    assert len({tuple(sorted(canonical(trial.params).items())) for trial in study.trials}) == 14


def test_enqueued_points_are_learned_from_and_a_reseeded_sampler_shares_what_is_known() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=make().with_seed(7))
    study.enqueue_trial(dict.fromkeys(SPACE, 1))
    for _ in range(16):
        trial = study.ask(dict(SPACE))
        study.tell(trial, [error(trial.params), cost(trial.params)])
    assert set(study.trials[0].params.values()) == {1}
    assert len(set(proposals(study))) == 16
    assert proposals(study)[1:] == proposals(search_from(make(seed=7), study.trials[:1], 15))[1:]


def search_from(sampler: HypervolumeSampler, trials: Sequence[optuna.trial.FrozenTrial], more: int) -> optuna.Study:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.add_trials(trials)
    for _ in range(more):
        trial = study.ask(dict(SPACE))
        study.tell(trial, [error(trial.params), cost(trial.params)])
    return study


def test_noise_that_is_declared_hurts_less_than_noise_that_is_not() -> None:
    def noisy(declared: float) -> float:
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=make(noise_std=(declared, 0.0)))
        rng = np.random.default_rng(0)
        for _ in range(40):
            trial = study.ask(dict(SPACE))
            study.tell(trial, [error(trial.params) + rng.normal(0, 0.5), cost(trial.params)])
        return hypervolume([[error(trial.params), cost(trial.params)] for trial in study.trials], [8.0, 48.0])

    assert noisy(0.5) > 0.97 * noisy(0.0)


def test_continuous_parameters_stay_within_their_bounds() -> None:
    space: dict[str, BaseDistribution] = {
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
        "count": IntDistribution(1, 10**6, log=True),
        "share": FloatDistribution(0.0, 1.0, step=0.25),
    }
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=HypervolumeSampler(seed=0, search_space=space, effort=QUICK)
    )
    for _ in range(20):
        trial = study.ask(dict(space))  # Optuna itself refuses a value outside
        study.tell(trial, [abs(np.log10(trial.params["rate"]) + 2), np.log10(trial.params["count"])])
    assert {trial.params["share"] for trial in study.trials} <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert isinstance(study.trials[-1].params["count"], int)


def test_features_that_are_not_finite_are_refused() -> None:
    sampler = make(knowledge=Knowledge(features=lambda many: np.full((len(many), 1), np.nan)))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    with pytest.raises(
        ValueError, match=r"features and costs must be finite arrays of .* with 2.. values that are not finite"
    ):
        study.ask(dict(SPACE))
