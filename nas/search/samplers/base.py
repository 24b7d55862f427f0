"""Samplers by name: what proposes the next architecture.

A sampler is an Optuna sampler over `distributions`. Each question gets a sampler of its own seed, derived from the
run's seed and the question's number, so that the answer depends on nothing that lived in a killed process: what a
sampler must remember, it keeps in Optuna's storage (NSGA-II its generations), which the ledger restores.
"""

from collections.abc import Callable
from difflib import get_close_matches

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler

from nas.config import SearchConfig
from nas.errors import InputError
from nas.evaluators.costs import CostModel
from nas.search.problem import SearchProblem
from search_spaces.space import SearchSpace

SeededSampler = Callable[[int], BaseSampler]
"""Returns the sampler that answers one question, given that question's seed (0 to 2**32 - 1)."""

SamplerFactory = Callable[[SearchProblem, CostModel, SearchConfig], SeededSampler]
"""Called once in a search, with what can be told without an evaluation; what it prepares, the sampler of every question
may share."""

_SAMPLERS: dict[str, SamplerFactory] = {}


def register_sampler(name: str) -> Callable[[SamplerFactory], SamplerFactory]:
    """Registers a factory under a name that `search.sampler` can take.

    Raises:
        ValueError: the name is taken.
    """

    def register(factory: SamplerFactory) -> SamplerFactory:
        if name in _SAMPLERS:
            raise ValueError(f"a sampler named {name!r} exists already: {_SAMPLERS[name]}")
        _SAMPLERS[name] = factory
        return factory

    return register


def list_samplers() -> list[str]:
    """Returns the registered names."""
    return sorted(_SAMPLERS)


def get_sampler(problem: SearchProblem, costs: CostModel, config: SearchConfig) -> SeededSampler:
    """Returns the sampler of a config for what is searched.

    Raises:
        InputError: nothing is registered under the config's name.
    """
    name = config.sampler
    if name not in _SAMPLERS:
        close = get_close_matches(name, _SAMPLERS, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"search.sampler must be one of {', '.join(list_samplers())}, got {name!r}{hint}")
    return _SAMPLERS[name](problem, costs, config)


def distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """Returns every dimension of a space as Optuna sees it, switched-off ones included."""
    return {dimension.name: CategoricalDistribution(dimension.choices) for dimension in space.dimensions}


def derived_seed(seed: int, number: int) -> int:
    """Returns a seed of 32 bits for one question, independent of those of other numbers and seeds."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
