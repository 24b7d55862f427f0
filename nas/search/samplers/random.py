"""Random search: every dimension drawn uniformly."""

from optuna.samplers import BaseSampler, RandomSampler

from nas.config import SearchConfig
from nas.evaluators.costs import CostModel
from nas.search.problem import SearchProblem
from nas.search.samplers.base import SeededSampler, register_sampler


@register_sampler("random")
def random_sampler(problem: SearchProblem, costs: CostModel, config: SearchConfig) -> SeededSampler:
    """Returns random search."""

    def sampler(seed: int) -> BaseSampler:
        return RandomSampler(seed=seed)

    return sampler
