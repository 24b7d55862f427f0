"""NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002), as Optuna has it."""

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.config import SearchConfig
from nas.search.samplers.base import SeededSampler, derived_seed, distributions, register_sampler
from search_spaces.space import SearchSpace


class StaticSpaceNSGAII(NSGAIISampler):
    """Optuna's NSGA-II for a space whose dimensions never change, cheap to make for a single question.

    Optuna infers the dimensions from all earlier trials each time a sampler is new; here they are given. First
    generation and mutations get a random stream of their own: with one seed for both, as Optuna has it, the first
    numbers of a question would decide crossover and mutated values alike.

    Args:
        space: name and distribution of every dimension.
        population: individuals of a generation.
        seed: of this question.
    """

    def __init__(self, space: dict[str, BaseDistribution], population: int, seed: int) -> None:
        super().__init__(population_size=population, seed=seed)
        self._space = space
        self._independent = RandomSampler(seed=derived_seed(seed, 1))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns every dimension."""
        return self._space

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # as Optuna declares it
        """Returns a uniform choice."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)


@register_sampler("nsga2")
def nsga2_sampler(space: SearchSpace, config: SearchConfig) -> SeededSampler:
    """Returns NSGA-II with the config's population."""
    dimensions: dict[str, BaseDistribution] = dict(distributions(space))

    def sampler(seed: int) -> BaseSampler:
        return StaticSpaceNSGAII(dimensions, config.population, seed)

    return sampler
