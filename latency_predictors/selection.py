"""Which networks to measure next on a new device.

Greedy experimental design under the source bank's prior (`latency_predictors.source_bank`): each next network is the
one whose measurement takes most variance off the predictions for all candidates (the integrated variance criterion;
Krause, Singh and Guestrin, JMLR 9, 2008, discuss its kin). What varies between source devices is thereby covered first,
then what no source device explains.
"""

import math

import numpy as np
from numpy.typing import NDArray

from latency_predictors.source_bank import SourceBank
from search_spaces.errors import InputError

Floats = NDArray[np.float64]

MOST_CANDIDATES = 400
"""Candidates compared with each other; more are thinned at random."""
MOST_REFERENCES = 300
"""Candidates whose predictions are to become certain."""
USUAL = 0.95
"""Share of the candidates that are not too far out to be chosen: a bank that is off is most so at the ends."""
ALONG = 0.5
LOCAL = 1.0
RANGE = 0.3
NOISE = 0.01
"""Settings of `latency_predictors.transfer` that led to the best choices on tables of GPUs and phones.

For the first ten networks of an FPGA, `ALONG` of 1 and more was better."""


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
    towards = targets @ rows.T
    unknown = np.square(rows).sum(axis=1)
    outward = unknown[len(known) :].argsort(kind="stable")
    too_far = len(known) + outward[max(count, math.ceil(USUAL * len(pool))) :]
    told = np.empty((0, len(rows)))  # what each measurement so far tells of every row, as in a pivoted Cholesky
    chosen: list[int] = []
    for step in range(len(known) + count):
        if step < len(known):
            best = step
        else:
            gain = np.square(towards).sum(axis=0) / (unknown + NOISE**2)
            gain[[*range(len(known)), *chosen, *too_far]] = -1
            best = int(gain.argmax())
            chosen.append(best)
        deviation = np.sqrt(unknown[best] + NOISE**2)
        tells = (rows @ rows[best] - told[:, best] @ told) / deviation
        towards = towards - np.outer(towards[:, best] / deviation, tells)
        unknown = unknown - np.square(tells)
        told = np.vstack([told, tells])
    return [int(pool[index - len(known)]) for index in chosen]
