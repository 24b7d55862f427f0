import random

import optuna
import pytest
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.search.samplers.base import distributions
from nas.search.samplers.nsga2 import StaticSpaceNSGAII
from search_spaces.space import load_space


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_a_trial_is_of_the_generation_and_has_the_parents_that_optuna_gives_it(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    fast = StaticSpaceNSGAII.get_trial_generation

    def both(self: StaticSpaceNSGAII, study: Study, trial: FrozenTrial) -> int:
        expected = NSGAIISampler.get_trial_generation(self, study, trial)
        # Both write what they found; ours must not find Optuna's answer there.
        unanswered = optuna.trial.create_trial(values=[0, 0])
        unanswered._trial_id = trial._trial_id
        assert fast(self, study, unanswered) == expected
        seen.append(expected)
        return expected

    parents: list[int] = []
    fast_parents = StaticSpaceNSGAII.get_parent_population

    def both_parents(self: StaticSpaceNSGAII, study: Study, generation: int) -> list[FrozenTrial]:
        first = NSGAIISampler.get_parent_population(self, study, generation)  # chooses them where nobody has
        found = fast_parents(self, study, generation)
        expected = NSGAIISampler.get_parent_population(self, study, generation)
        assert [trial.number for trial in found] == [trial.number for trial in expected]
        assert {trial.number for trial in first} == {trial.number for trial in found}
        parents.append(len(found))
        return found

    monkeypatch.setattr(StaticSpaceNSGAII, "get_trial_generation", both)
    monkeypatch.setattr(StaticSpaceNSGAII, "get_parent_population", both_parents)
    space = dict(distributions(load_space("tiny")))
    chance = random.Random(workers)
    study = optuna.create_study(directions=["maximize", "minimize"])
    running: list[optuna.Trial] = []
    for number in range(120):
        study.sampler = StaticSpaceNSGAII(dict(space), population=5, seed=number)
        if chance.random() < 0.1:
            study.add_trial(optuna.create_trial(values=[chance.random(), 0.5]))  # of another origin
        running.append(study.ask(dict(space)))
        while len(running) >= workers:  # they end in any order, and some fail
            ended = running.pop(chance.randrange(len(running)))
            failed = chance.random() < 0.1
            study.tell(
                ended,
                None if failed else [chance.random(), chance.random()],
                state=None if not failed else optuna.trial.TrialState.FAIL,
            )
    assert len(seen) == 120
    assert seen == sorted(seen)
    assert seen[-1] >= 10
    assert set(parents) == {0, 5}
