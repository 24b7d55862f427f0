"""NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002), as Optuna has it."""

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.config import SearchConfig
from nas.search.samplers.base import SeededSampler, distributions, register_sampler
from search_spaces.space import SearchSpace


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

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns every dimension."""
        return self._space


@register_sampler("nsga2")
def nsga2_sampler(space: SearchSpace, config: SearchConfig) -> SeededSampler:
    """Returns NSGA-II with the config's population."""
    dimensions: dict[str, BaseDistribution] = dict(distributions(space))

    def sampler(seed: int) -> BaseSampler:
        return StaticSpaceNSGAII(dimensions, config.population, seed)

    return sampler
