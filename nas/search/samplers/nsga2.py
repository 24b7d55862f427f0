"""NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002), as Optuna has it."""

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.config import SearchConfig
from nas.evaluators.costs import CostModel
from nas.search.problem import SearchProblem
from nas.search.samplers.base import SeededSampler, distributions, register_sampler


class StaticSpaceNSGAII(NSGAIISampler):
    """Optuna's NSGA-II for a space whose dimensions never change, cheap to make for a single question.

    Optuna infers the dimensions from all earlier trials each time a sampler is new; here they are given. Optuna names
    what it stores after this class: renaming it makes ledgers of earlier versions start a new generation.

    Args:
        space: name and distribution of every dimension.
        population: individuals of a generation.
        seed: of this question.
    """

    def __init__(self, space: dict[str, BaseDistribution], population: int, seed: int) -> None:
        super().__init__(population_size=population, seed=seed)
        self._space = space
        self._individuals = population

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns every dimension."""
        return self._space

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """Returns the trial's generation, as Optuna's method does, without a look at all earlier trials.

        Generations never fall from one trial to the next, so that the newest ones tell.
        """
        key = self._get_generation_key()
        given = trial.system_attrs.get(key)
        if given is not None:
            return int(given)
        newest, count = 0, 0
        for other in reversed(study._get_trials(deepcopy=False, use_cache=True)):
            generation = other.system_attrs.get(key)
            if generation is None or other.state != TrialState.COMPLETE:  # None: not proposed by NSGA-II
                continue
            if generation < newest:
                break
            if generation > newest:
                newest, count = generation, 0
            count += 1
        found = newest if count < self._individuals else newest + 1
        study._storage.set_trial_system_attr(trial._trial_id, key, found)
        return found

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Returns the parents of a generation, as Optuna's method does, without a look at all trials."""
        attributes = study._storage.get_study_system_attrs(study._study_id)
        identifiers = attributes.get(f"{self._get_parent_cache_key_prefix()}{generation}")
        if generation == 0 or identifiers is None:
            return super().get_parent_population(study, generation)
        trials = study._get_trials(deepcopy=False, use_cache=True)
        return [trials[number] for number in sorted(map(study._storage.get_trial_number_from_id, identifiers))]


@register_sampler("nsga2")
def nsga2_sampler(problem: SearchProblem, costs: CostModel, config: SearchConfig) -> SeededSampler:
    """Returns NSGA-II with the config's population."""
    dimensions: dict[str, BaseDistribution] = dict(distributions(problem.space))

    def sampler(seed: int) -> BaseSampler:
        return StaticSpaceNSGAII(dimensions, config.population, seed)

    return sampler
