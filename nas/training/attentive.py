"""Attentive sampling of subnets (Wang et al., AttentiveNAS, arXiv:2011.09011): training goes where the front will be.

Of several subnets of nearly equal arithmetic, the one is trained that the supernet answers best with now (*best*: the
future front) or worst (*worst*: what lags behind), judged by its loss on the batch at hand, as in section 3.3 there.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from search_spaces.architecture import Architecture
from search_spaces.cost import network_cost
from search_spaces.space import SearchSpace

Attention = Literal["best", "worst"]
_POOL = 2048
_WINDOW = 64  # of the pool, ordered by MACs: networks of nearly equal arithmetic


class AttentiveSampler:
    """Draws subnets: their MACs as uniform sampling has them, and of equals the best or the worst."""

    def __init__(self, space: SearchSpace, attention: Attention, candidates: int, rng: np.random.Generator) -> None:
        """Draws the pool that is chosen from, and counts its MACs.

        Args:
            space: of the subnets.
            attention: which of equals is taken.
            candidates: how many are compared.
            rng: of the pool.
        """
        drawn = {one.key: one for one in (space.sample(rng) for _ in range(_POOL))}
        self._pool = sorted(drawn.values(), key=lambda one: network_cost(space.layers(one)).macs)
        self._attention, self._candidates = attention, candidates

    def candidates(self, rng: np.random.Generator) -> list[Architecture]:
        """Returns different subnets whose MACs are close; fewer where the space is that small."""
        window = min(_WINDOW, len(self._pool))
        middle = int(rng.integers(len(self._pool)))
        start = min(max(0, middle - window // 2), len(self._pool) - window)
        places = rng.choice(window, size=min(self._candidates, window), replace=False)
        return [self._pool[start + int(place)] for place in places]

    def sample(self, rng: np.random.Generator, loss_of: Callable[[Architecture], float]) -> Architecture:
        """Returns the subnet to train.

        Args:
            rng: of the candidates.
            loss_of: tells how well the supernet answers as a subnet; less is better.
        """
        losses = {one: loss_of(one) for one in self.candidates(rng)}
        return (min if self._attention == "best" else max)(losses, key=lambda one: losses[one])
