"""History: the trials of a study as a model reads them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.search.samplers.knowledge import Candidates, Describer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """What a study knows before a trial.

    Attributes:
        finished: the n distinct parameter sets that were evaluated, in the order of their trials.
        losses: ``(n, m)``, less is better.
        constraints: ``(n,)`` by name, NaN where a trial told none of that name.
        feasible: ``(n,)`` whether all told constraints are kept.
        pending: parameter sets that are being evaluated.
        taken: identifiers of all parameter sets of earlier trials, those that failed included.
        signs: ``(m,)``; -1 for an objective that is maximised.
    """

    finished: Candidates
    losses: Floats
    constraints: dict[str, Floats]
    feasible: NDArray[np.bool_]
    pending: Candidates
    taken: frozenset[bytes]
    signs: Floats

    @classmethod
    def of(cls, study: Study, trial: FrozenTrial, describer: Describer) -> Self:
        """Reads a study's trials, the one that is being asked for left out.

        Finished trials that break a constraint known beforehand count as taken only: their values need not be real.
        """
        signs = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in study.directions])
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.params]
        genomes = np.array([describer.genome_of(t) for t in others])
        described = describer.describe(genomes.reshape(len(others), len(describer.space.genes)))
        keys = described.keys
        finished: dict[bytes, int] = {}  # of equal parameter sets the first counts
        pending: dict[bytes, int] = {}
        for row, (other, key) in enumerate(zip(others, keys, strict=True)):
            if other.state == TrialState.COMPLETE and described.violation[row] <= 0:
                finished.setdefault(key, row)
            elif other.state == TrialState.RUNNING:
                pending.setdefault(key, row)
        rows = np.array(list(finished.values()), dtype=np.intp)
        waiting = np.array([row for key, row in pending.items() if key not in finished], dtype=np.intp)
        told = [others[row].constraints for row in rows]
        names = sorted({name for constraints in told for name in constraints} - describer.known_constraints)
        return cls(
            finished=described[rows],
            losses=signs * np.array([others[row].values for row in rows]).reshape(len(rows), len(signs)),
            constraints={name: np.array([c.get(name, np.nan) for c in told]) for name in names},
            feasible=np.array([all(value <= 0 for value in c.values()) for c in told], dtype=np.bool_),
            pending=described[waiting],
            taken=frozenset(keys),
            signs=signs,
        )
