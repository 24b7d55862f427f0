"""Random search: every dimension drawn uniformly."""

from optuna.samplers import BaseSampler, RandomSampler

from nas.config import SearchConfig
from nas.search.samplers.base import SeededSampler, register_sampler
from search_spaces.space import SearchSpace


@register_sampler("random")
def random_sampler(space: SearchSpace, config: SearchConfig) -> SeededSampler:
    """Returns random search."""

    def sampler(seed: int) -> BaseSampler:
        return RandomSampler(seed=seed)

    return sampler
