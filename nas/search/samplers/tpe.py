"""Multivariate tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; Falkner et al., arXiv:1807.01774)."""

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.config import SearchConfig
from nas.evaluators.costs import CostModel
from nas.search.problem import SearchProblem
from nas.search.samplers.base import SeededSampler, distributions, register_sampler


class StaticSpaceTPE(TPESampler):
    """Optuna's multivariate TPE for a space whose dimensions never change, cheap to make for a single question.

    Running trials count as bad ones (constant liar), so that parallel workers get different proposals.

    Args:
        space: name and distribution of every dimension.
        seed: of this question.
    """

    def __init__(self, space: dict[str, BaseDistribution], seed: int) -> None:
        super().__init__(multivariate=True, constant_liar=True, seed=seed)
        self._space = space

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns every dimension."""
        return self._space


@register_sampler("tpe")
def tpe_sampler(problem: SearchProblem, costs: CostModel, config: SearchConfig) -> SeededSampler:
    """Returns multivariate TPE."""
    dimensions: dict[str, BaseDistribution] = dict(distributions(problem.space))

    def sampler(seed: int) -> BaseSampler:
        return StaticSpaceTPE(dimensions, seed)

    return sampler
