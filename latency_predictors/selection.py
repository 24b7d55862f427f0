"""Which networks to measure next on a new device.

Greedy experimental design under the source bank's prior (`latency_predictors.source_bank`): each next network is the
one whose measurement takes most variance off the predictions for all candidates (the integrated variance criterion;
Krause, Singh and Guestrin, JMLR 9, 2008, discuss its kin). What varies between source devices is thereby covered first,
then what no source device explains.
"""

import numpy as np
from numpy.typing import NDArray

from latency_predictors.source_bank import SourceBank
from search_spaces.errors import InputError

Floats = NDArray[np.float64]

MOST_CANDIDATES = 400
"""Candidates compared with each other; more are thinned at random."""
MOST_REFERENCES = 300
"""Candidates whose predictions are to become certain."""
ALONG = 1.0
LOCAL = 0.1
RANGE = 0.3
NOISE = 0.03
"""Typical settings of `latency_predictors.transfer`."""


def choose_networks(
    bank: SourceBank, candidates: Floats, count: int, rng: np.random.Generator, measured: Floats | None = None
) -> list[int]:
    """Returns the rows of ``count`` candidates to measure, the most telling first.

    Args:
        bank: source devices.
        candidates: ``(m, p)`` features of networks that can be measured.
        count: how many.
        rng: thins the candidates where there are many.
        measured: ``(r, p)`` features of networks that have been measured; their neighbours tell little more.

    Raises:
        InputError: fewer candidates than asked for.
    """
    if count > len(candidates):
        raise InputError(f"count must be at most the number of candidates, {len(candidates)}, got {count}")
    order = rng.permutation(len(candidates))
    pool = order[: max(count, MOST_CANDIDATES)]
    references = order[-MOST_REFERENCES:]
    known = np.empty((0, candidates.shape[1])) if measured is None else measured
    rows, targets = (
        bank.prior.coordinates(bank.inputs(features), ALONG, LOCAL, RANGE)
        for features in (np.vstack([known, candidates[pool]]), candidates[references])
    )
    among = rows @ rows.T
    towards = targets @ rows.T
    chosen: list[int] = []
    for step in range(len(known) + count):
        if step < len(known):
            best = step
        else:
            gain = np.square(towards).sum(axis=0) / (np.diag(among) + NOISE**2)
            gain[[*range(len(known)), *chosen]] = -1
            best = int(gain.argmax())
            chosen.append(best)
        certain = among[best, best] + NOISE**2
        towards = towards - np.outer(towards[:, best], among[best]) / certain
        among = among - np.outer(among[:, best], among[best]) / certain
    return [int(pool[index - len(known)]) for index in chosen]
